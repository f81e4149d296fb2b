"""The list of all jobs that embed documents."""

from collections import Counter
from typing import ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.timezone import localtime
from django_q import models as queue_models
from unfold.decorators import display

from embeddings.access.caller_lookup import console_caller
from embeddings.access.throttling import ConsoleUse, RateLimited
from embeddings.console.audited_page import AuditedPage
from embeddings.console.lists import BigList
from embeddings.services.errors import ServiceError
from media_jobs.console.filters import ModelFilter, OwnerFilter, ProviderFilter
from media_jobs.console.job_rows import status_of
from media_jobs.console.linked_rows import ShownElsewhere
from media_jobs.models import Job
from media_jobs.services.jobs import CHANGE_JOB, cancel_job, retry_job
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch

SNIPPET_CHARACTERS = 120

# Calls for workers are all that the queue holds; what they are about, the job pages tell.
for model in (
    queue_models.Schedule,
    queue_models.Success,
    queue_models.Failure,
    queue_models.OrmQ,
):
    admin.site.unregister(model)


@admin.register(Job)
class JobAdmin(ShownElsewhere, UnicodeSearch, BigList, ReadOnlyAdmin, AuditedPage):
    section = "Documents"
    icon = "work_history"
    list_display = (
        "public_id",
        "state",
        "problem",
        "share_done",
        "media_id",
        "owner",
        "embedding_model",
        "created_at",
        "finished_at",
    )
    list_filter = ("status", ProviderFilter, ModelFilter, OwnerFilter)
    search_fields = ("public_id", "=media__id", "owner__username")
    search_help_text = "A job's id, the number of a media item, or an owner's name."
    list_select_related = ("owner",)
    list_fullwidth = True
    empty_text = (
        "A job is made whenever a document is embedded: press Embed on its page."
    )
    empty_link = (
        "admin:media_jobs_mediaitem_changelist",
        "Show the documents",
        "media_jobs.view_mediaitem",
    )
    ordering = ("-pk",)
    actions: ClassVar = ["cancel", "retry"]

    def address_of(self, row: Job) -> str:
        return reverse("console:jobpage", args=[row.public_id])

    @display(  # type: ignore[untyped-decorator]
        ordering="status",
        label={
            "processing": "info",
            "completed": "success",
            "failed": "danger",
            "failing": "danger",
            "waiting": "warning",
        },
    )
    def state(self, job: Job) -> str:
        return status_of(job)

    @admin.display(description="problem", ordering="not_before")
    def problem(self, job: Job) -> str:
        """What went wrong last, or is waited for, and when the next try is."""
        said = (job.waiting_reason or job.error)[:SNIPPET_CHARACTERS]
        if job.waiting_until is None:
            return said or "-"
        return f"{said} Next try {localtime(job.waiting_until):%Y-%m-%d %H:%M:%S}."

    @admin.display(description="progress")
    def share_done(self, job: Job) -> str:
        return f"{int(job.progress * 100)}%"

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether the jobs' action is offered: a job's page itself changes nothing, whoever looks at it."""
        return bool(request.user.has_perm(CHANGE_JOB))

    @admin.action(description="Cancel the selected jobs", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        caller, cancelled, ended = console_caller(request.user), 0, 0
        for job in queryset:
            try:
                cancel_job(caller, job.public_id)
            except ServiceError:
                ended += 1
                continue
            cancelled += 1
            self.note(
                request,
                "cancel",
                job,
                before={"status": job.status},
                after={"status": "cancelled"},
            )
        if cancelled:
            messages.success(request, f"Cancelled {cancelled} job(s).")
        if ended:
            messages.info(request, f"{ended} job(s) had ended already.")

    @admin.action(description="Start the selected jobs again", permissions=["cancel"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Start those that failed or were cancelled, each as a job of its own; say why the others were not."""
        caller, made, reasons = console_caller(request.user), 0, Counter[str]()
        for job in queryset:
            try:
                ConsoleUse(caller)
                started = retry_job(caller, job.public_id)
            except ServiceError as error:
                reasons[error.message] += 1
                continue
            except RateLimited as error:
                reasons[str(error.detail)] += 1
                break
            if not started.is_new:
                reasons[f"{started.message}."] += 1
                continue
            made += 1
            self.note(request, "retry", job, after={"job": started.job.public_id})
        if made:
            messages.success(request, f"Started {made} job(s) again.")
        for reason, count in reasons.items():
            messages.info(request, f"Not started ({count}): {reason}")
