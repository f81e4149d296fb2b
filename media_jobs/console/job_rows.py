"""Jobs as the console's pages show them, and what can be done to one there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from embeddings.access.caller_lookup import console_caller
from embeddings.access.throttling import ConsoleUse, RateLimited
from embeddings.console.page import ConsolePage, action
from embeddings.services.errors import ServiceError
from media_jobs.models import LIVE, Job
from media_jobs.services.jobs import CHANGE_JOB, cancel_job, retry_job
from media_jobs.services.progress import pace_of, titles_of

TONES = {"processing": "info", "completed": "good", "failed": "bad"}
MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job, in words and figures. `tone`: the badge's. `percent`: whole, of its progress."""

    job: Job
    title: str
    status: str
    tone: str
    percent: int
    chunks: str
    pace: str
    left: str
    may_cancel: bool
    may_retry: bool


class JobActions(ConsolePage):
    """What a page's forms do to the job that they name."""

    @action(CHANGE_JOB)
    def cancel(self, request: HttpRequest) -> None:
        public_id = request.POST.get("job", "")
        try:
            job = cancel_job(console_caller(request.user), public_id)
        except ServiceError as error:
            messages.error(request, error.message)
            return
        self.note("cancel", f"job {job}", after={"status": job.status})
        messages.success(request, f"Cancelled the job {job}.")

    @action(CHANGE_JOB)
    def retry(self, request: HttpRequest) -> HttpResponse | None:
        """Start the job again, on the account of who asks, and show the job that this makes."""
        public_id, caller = request.POST.get("job", ""), console_caller(request.user)
        try:
            ConsoleUse(caller)
            started = retry_job(caller, public_id)
        except ServiceError as error:
            messages.error(request, error.message)
            return None
        except RateLimited as error:
            messages.error(request, str(error.detail))
            return None
        job = started.job
        if started.is_new:
            self.note("retry", f"job {public_id}", after={"job": job.public_id})
            messages.success(request, f"Started again, as the job {job}.")
        else:
            messages.info(request, f"Nothing was started: {started.message}.")
        return HttpResponseRedirect(reverse("console:jobpage", args=[job.public_id]))


def job_rows(jobs: Sequence[Job], may: dict[str, bool]) -> list[JobRow]:
    """Return the jobs as they are shown to who may do what `may` says."""
    titles = titles_of(jobs)
    return [job_row(job, titles.get(job.media_id, ""), may) for job in jobs]


def job_row(job: Job, title: str, may: dict[str, bool]) -> JobRow:
    pace = pace_of(job)
    ended = job.status in (Job.Status.FAILED, Job.Status.CANCELLED)
    total = "?" if job.chunks_total is None else f"{job.chunks_total:,}"
    per_second = pace.chunks_per_second
    return JobRow(
        job=job,
        title=title,
        status=status_of(job),
        tone=tone_of(job),
        percent=int(job.progress * 100),
        chunks=f"{job.chunks_processed:,} of {total}",
        pace="" if per_second is None else f"{per_second:,.1f} chunks/s",
        left="" if pace.seconds_left is None else duration(pace.seconds_left),
        may_cancel=may.get("cancel", False) and job.status in LIVE,
        may_retry=may.get("retry", False) and ended and bool(title),
    )


def status_of(job: Job) -> str:
    """Return a job's state in words: one that was put back is not merely queued."""
    if job.status != Job.Status.QUEUED or not job.waiting_until:
        return str(job.status)
    return "waiting" if job.waiting_reason else "failing"


def tone_of(job: Job) -> str:
    """Return the badge's tone for a job's state."""
    tones = {**TONES, "waiting": "warn", "failing": "bad"}
    return tones.get(status_of(job), "")


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 5 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    for size, name, smaller, smaller_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (
                f" {rest} {smaller_name}" if rest else ""
            )
    return f"{whole} s"


def may_of(page: Any) -> dict[str, bool]:
    """Return which actions of a page whoever looks may do."""
    user = page.request.user
    return {name: user.has_perm(one.permission) for name, one in page.actions().items()}
