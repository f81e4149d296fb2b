"""Jobs that embed documents."""

from typing import ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django_q import models as queue_models

from embeddings.console.audited_page import AuditedPage
from embeddings.services.callers import SYSTEM
from embeddings.services.errors import ServiceError
from media_jobs.models import Job
from media_jobs.services.jobs import CHANGE_JOB, cancel_job
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch

# Calls for workers are all that the queue holds; what they are about, the job pages tell.
for model in (
    queue_models.Schedule,
    queue_models.Success,
    queue_models.Failure,
    queue_models.OrmQ,
):
    admin.site.unregister(model)


@admin.register(Job)
class JobAdmin(UnicodeSearch, ReadOnlyAdmin, AuditedPage):
    section = "Documents"
    icon = "work_history"
    list_display = (
        "public_id",
        "media_id",
        "owner",
        "status",
        "waiting_until",
        "share_done",
        "embedding_model",
        "attempts",
        "created_at",
        "finished_at",
    )
    list_filter = ("status", "embedding_provider", "embedding_model")
    search_fields = ("public_id", "=media__id", "owner__username")
    list_select_related = ("owner",)
    date_hierarchy = "created_at"
    exclude = ("media",)
    actions: ClassVar = ["cancel"]

    @admin.display(description="progress")
    def share_done(self, job: Job) -> str:
        return f"{job.progress:.0%}"

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether the jobs' action is offered: a job's page itself changes nothing, whoever looks at it."""
        return bool(request.user.has_perm(CHANGE_JOB))

    @admin.action(description="Cancel the selected jobs", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        cancelled = 0
        for job in queryset:
            try:
                cancel_job(SYSTEM, job.public_id)
            except ServiceError:
                continue  # it has ended
            cancelled += 1
            self.note(
                request,
                "cancel",
                job,
                before={"status": job.status},
                after={"status": "cancelled"},
            )
        messages.success(request, f"Cancelled {cancelled} job(s).")
