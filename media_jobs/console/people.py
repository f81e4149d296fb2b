"""The console's page of users, once more: it shows the quotas, too; and with a user goes what it stored, named before
it is confirmed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect

from embeddings.console.limits import Meter
from embeddings.console.people import UserAdmin
from embeddings.console.words import count
from embeddings.models import ApiKey
from embeddings.services.callers import Caller
from media_jobs.services.accounts import delete_user, holdings
from media_jobs.services.items import CHANGE, VIEW
from media_jobs.services.jobs import CHANGE_JOB, VIEW_JOB
from media_jobs.services.quotas import QuotaName, quota_use

# A proxy in front gives up after 30 seconds or 60, as most are set up.
DELETING_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quota:
    """How a quota is shown. `page`: the list of what counts, which any of `permissions` opens."""

    title: str
    verb: str
    write: Callable[[int], str] = count
    page: str = "admin:media_jobs_mediaitem_changelist"
    permissions: tuple[str, ...] = (VIEW, CHANGE)
    link: str = "Documents"


QUOTAS: Mapping[QuotaName, _Quota] = {
    "documents": _Quota(title="Documents", verb="stored"),
    "stored_bytes": _Quota(
        title="Stored text", verb="stored", write=filesizeformat, permissions=()
    ),
    "queued_jobs": _Quota(
        title="Queued jobs",
        verb="wait or run",
        page="admin:media_jobs_job_changelist",
        permissions=(VIEW_JOB, CHANGE_JOB),
        link="Jobs",
    ),
}

admin.site.unregister(User)


@admin.register(User)
class UserWithMediaAdmin(UserAdmin):
    """Deletes a user by the service, in small steps; what cannot be done in time goes on when it is asked for again."""

    def limits_of(self, request: HttpRequest, caller: Caller) -> dict[str, Any]:
        limits = super().limits_of(request, caller)
        return {**limits, "meters": [*limits["meters"], *_quotas(request, caller)]}

    def get_deleted_objects(
        self, objs: Sequence[User] | QuerySet[User], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count what goes along: it may be very much. Documents and keys take the permission to delete those."""
        users = list(objs)
        stored = holdings(users)
        keys = ApiKey.objects.filter(user__in=users).count()
        counts = {
            "users": len(users),
            "media items": stored.documents,
            "stored chunks, with their vectors": stored.chunks,
            "jobs (those that wait or run are cancelled)": stored.jobs,
            "API keys": keys,
        }
        lacking = {
            kind
            for kind, count, permission in (
                ("media items", stored.documents, "media_jobs.delete_mediaitem"),
                ("API keys", keys, "embeddings.delete_apikey"),
            )
            if count and not request.user.has_perm(permission)
        }
        if not all(self.has_delete_permission(request, user) for user in users):
            lacking.add("users with permissions that you lack")
        return [str(user) for user in users], counts, lacking, []

    @method_decorator(csrf_protect)
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Show the page, or delete: not in one transaction, as Django would, since each step is one."""
        try:
            answer: HttpResponse = self._delete_view(request, object_id, extra_context)
        except _Unfinished as unfinished:
            return self._to_be_continued(request, unfinished)
        return answer

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        try:
            return super().changelist_view(request, extra_context)
        except _Unfinished as unfinished:
            return self._to_be_continued(request, unfinished)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        self._delete(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._delete(request, list(queryset))

    def _delete(self, request: HttpRequest, users: Sequence[User]) -> None:
        """Delete users one after the other, each written down first. Raises _Unfinished when time is up."""
        end = time.monotonic() + DELETING_SECONDS
        for user in users:
            before = {**self.audit_state(user), **asdict(holdings([user]))}
            self.note(request, "delete", user, before=before)
            if not delete_user(user, seconds=end - time.monotonic()):
                raise _Unfinished(user)

    def _to_be_continued(
        self, request: HttpRequest, unfinished: "_Unfinished"
    ) -> HttpResponse:
        user = unfinished.user
        messages.warning(
            request,
            f"{user.get_username()} is switched off, and {holdings([user]).documents} documents are left to delete:"
            " delete again to go on.",
        )
        return HttpResponseRedirect(reverse("admin:auth_user_changelist"))


def _quotas(request: HttpRequest, caller: Caller) -> Iterator[Meter]:
    """Yield what is used of each quota, with the way to the rows for who may see them."""
    for name, use in quota_use(caller).items():
        what = QUOTAS[name]
        most = (
            "no limit" if use.limit is None else f"of at most {what.write(use.limit)}"
        )
        may_see = any(map(request.user.has_perm, what.permissions))
        yield Meter(
            title=what.title,
            words=f"{what.write(use.used)} {what.verb}, {most}",
            used=use.used,
            limit=use.limit,
            address=f"{reverse(what.page)}?owner={caller.user_id}" if may_see else "",
            link=f"{what.link} of {caller.username}",
        )


class _Unfinished(Exception):
    """Time was up before all of a user's documents were deleted."""

    def __init__(self, user: User) -> None:
        super().__init__(user.get_username())
        self.user = user
