"""One job: how far it is, and what happened to it."""

from typing import Any

from django.http import Http404

from embeddings.access.caller_lookup import console_caller
from embeddings.services.errors import NotFound
from media_jobs.console.job_rows import JobActions, job_row, may_of
from media_jobs.models import LIVE
from media_jobs.services.jobs import find_job
from media_jobs.services.progress import timeline, titles_of


class JobPage(JobActions):
    """Whoever may see the job by the API may open it."""

    route = "jobs/<str:public_id>/"
    title = "Job"
    parts = {"live": "console/jobpage_live.html"}  # noqa: RUF012

    def show(self) -> dict[str, Any]:
        try:
            job = find_job(console_caller(self.request.user), self.kwargs["public_id"])
        except NotFound as error:
            raise Http404(error.message) from error
        title = titles_of([job]).get(job.media_id, "")
        return {
            "title": f"Job {job.public_id}",
            "row": job_row(job, title, may_of(self)),
            "steps": timeline(job),
            "is_live": job.status in LIVE,
            "facts": {
                "Model": f"{job.embedding_provider}:{job.embedding_model}",
                "Dimensions": job.dimensions or "the model's own",
                "Chunk size": f"{job.chunk_size:,} characters",
                "Overlap": f"{job.chunk_overlap:,} characters",
                "Priority": job.priority,
                "Attempts": job.attempts,
                "Owner": job.owner or "the single user",
                "Asked for by": job.caller,
            },
        }
