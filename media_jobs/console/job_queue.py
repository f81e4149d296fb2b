"""What goes on: the jobs that run, wait and failed last, and whether a worker is there."""

from typing import Any

from embeddings.access.caller_lookup import console_caller
from embeddings.console.overview import Overview, Panel
from media_jobs.console.job_rows import JobActions, job_rows, may_of
from media_jobs.models import Job
from media_jobs.services.jobs import visible_jobs
from media_jobs.services.progress import MAX_COUNTED, pace_of, queue, worker_light

MOST_ON_OVERVIEW = 5
LIGHTS = {
    "working": "good",
    "idle": "good",
    "busy": "warn",
    "stuck": "bad",
    "absent": "bad",
}


class JobQueue(JobActions):
    """All staff may look; of others' jobs each sees what the API would show."""

    route = "jobs/"
    title = "Job queue"
    icon = "pending_actions"
    section = "Documents"
    parts = {"live": "console/jobqueue_live.html"}  # noqa: RUF012

    def show(self) -> dict[str, Any]:
        caller = console_caller(self.request.user)
        found, light, may = queue(visible_jobs(caller)), worker_light(), may_of(self)
        paces = (pace_of(job).chunks_per_second or 0.0 for job in found.running)
        return {
            "light": light,
            "light_tone": LIGHTS[light.state],
            "figures": {
                "Running": _figure(found.running_count),
                "Waiting": _figure(found.waiting_count),
                "Chunks a second": f"{sum(paces):,.1f}",
            },
            "running": job_rows(found.running, may),
            "lists": [
                (title, job_rows(jobs, may))
                for title, jobs in (
                    (
                        "Put back: they failed, or wait for what they need",
                        found.put_back,
                    ),
                    ("Next", found.next),
                    ("Failed last", found.failed),
                )
                if jobs
            ],
        }


def _figure(count: int) -> str:
    return f"{count:,}" + ("+" if count == MAX_COUNTED else "")


def _panel() -> dict[str, Any]:
    found, light = queue(Job.objects.all()), worker_light()
    return {
        "light": light,
        "light_tone": LIGHTS[light.state],
        "running": job_rows(found.running[:MOST_ON_OVERVIEW], {}),
        "running_count": _figure(found.running_count),
        "waiting_count": _figure(found.waiting_count),
        "failed": job_rows(found.failed[:MOST_ON_OVERVIEW], {}),
    }


Overview.panels.append(
    Panel(
        template="console/jobs_panel.html",
        permission="media_jobs.view_job",
        show=_panel,
    )
)
