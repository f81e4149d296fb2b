"""What a caller may store and have queued, and what of it is used."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from embeddings.access.callers import caller_of
from media_jobs.api import answers
from media_jobs.api.items import MediaView
from media_jobs.services.quotas import queued_by, quotas_of, stored_by


class ShowQuota(MediaView):
    """Show the caller's quotas, `limit` null where there is none, and how much of each is used."""

    @extend_schema(operation_id="media_quota", responses={200: answers.QUOTA})
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        quotas, stored = quotas_of(caller), stored_by(caller)
        return Response(
            {
                "documents": _shown(stored.documents, quotas.documents),
                "stored_bytes": _shown(stored.bytes, quotas.stored_bytes),
                "queued_jobs": _shown(queued_by(caller), quotas.queued_jobs),
            }
        )


def _shown(used: int, limit: int | None) -> dict[str, Any]:
    return {"used": used, "limit": limit}
