"""What a caller may store and have queued, and what of it is used."""

from dataclasses import dataclass

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from embeddings.access.callers import caller_of
from media_jobs.api.items import MediaView
from media_jobs.services.quotas import queued_by, quotas_of, stored_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    used: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    documents: Amount
    stored_bytes: Amount
    queued_jobs: Amount


class ShowQuota(MediaView):
    """Show the caller's quotas, `limit` null where there is none, and how much of each is used."""

    @extend_schema(operation_id="media_quota", responses={200: Quota})
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        quotas, stored = quotas_of(caller), stored_by(caller)
        return Response(
            Quota(
                documents=Amount(used=stored.documents, limit=quotas.documents),
                stored_bytes=Amount(used=stored.bytes, limit=quotas.stored_bytes),
                queued_jobs=Amount(used=queued_by(caller), limit=quotas.queued_jobs),
            )
        )
