"""How jobs fare: pace and time left, what happened to one so far, and whether anybody runs them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.db.models import Q, QuerySet
from django.utils import timezone

from embeddings.services.processes import runs
from media_jobs.models import Job, MediaItem
from media_jobs.services.claims import due_jobs
from media_jobs.services.recovery import HUNG_SECONDS

# A job that is due is taken within a second or two where a worker is free.
UNTAKEN_SECONDS = 30.0
MAX_COUNTED = 10_000
LISTED = 20

Tone = Literal["", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Chunks a second since the job began, pauses included, and the seconds left at that pace; None: unknown."""

    chunks_per_second: float | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened to a job, or is to happen."""

    at: datetime
    what: str
    detail: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLight:
    """Whether a worker runs jobs."""

    state: Literal["working", "idle", "busy", "stuck", "absent"]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The jobs of one moment. Numbers stop at MAX_COUNTED, lists at LISTED."""

    running: Sequence[Job]
    next: Sequence[Job]
    put_back: Sequence[Job]
    failed: Sequence[Job]
    running_count: int
    waiting_count: int


def pace_of(job: Job) -> Pace:
    """Return how fast a job goes, or went."""
    until = job.finished_at or job.heartbeat_at
    if not (job.started_at and until and job.chunks_processed):
        return Pace(chunks_per_second=None, seconds_left=None)
    seconds = (until - job.started_at).total_seconds()
    if seconds <= 0:
        return Pace(chunks_per_second=None, seconds_left=None)
    pace = job.chunks_processed / seconds
    left = None
    if job.status == Job.Status.PROCESSING and job.chunks_total:
        left = (job.chunks_total - job.chunks_processed) / pace
    return Pace(chunks_per_second=pace, seconds_left=left)


def timeline(job: Job) -> list[Step]:
    """Return what happened to a job, in its order, and what is next."""
    return sorted(_steps(job), key=lambda step: step.at)


def queue(jobs: QuerySet[Job]) -> Queue:
    """Return which of `jobs` run, which are next, which were put back, and which failed last."""
    waiting = jobs.filter(status=Job.Status.QUEUED)
    put_back = ~Q(error="") | ~Q(waiting_reason="")
    running = jobs.filter(status=Job.Status.PROCESSING).order_by("-heartbeat_at")
    in_turn = ("-priority", "created_at", "pk")
    failed = jobs.filter(status=Job.Status.FAILED).order_by("-finished_at", "-pk")
    return Queue(
        running=list(running[:LISTED]),
        next=list(waiting.exclude(put_back).order_by(*in_turn)[:LISTED]),
        put_back=list(waiting.filter(put_back).order_by("not_before")[:LISTED]),
        failed=list(failed[:LISTED]),
        running_count=_counted(running),
        waiting_count=_counted(waiting),
    )


def titles_of(jobs: Sequence[Job]) -> dict[int, str]:
    """Return the titles of the documents that the jobs are about, by id; jobs outlive their documents."""
    ids = {job.media_id for job in jobs}
    return dict(MediaItem.objects.filter(pk__in=ids).values_list("pk", "title"))


def worker_light() -> WorkerLight:
    """Say whether a worker is at work: jobs that run show it, and the worker itself says that it runs."""
    now = timezone.now()
    alive = Job.objects.filter(
        status=Job.Status.PROCESSING,
        heartbeat_at__gte=now - timedelta(seconds=HUNG_SECONDS),
    )
    if alive.exists():
        return WorkerLight(state="working", sentence="A worker is at work.")
    if not runs("worker"):
        return WorkerLight(
            state="absent",
            sentence="No worker runs: start one with MEDIA_WORKERS=1 or more, or with manage.py runworker.",
        )
    first = due_jobs().first()
    if first is None:
        return WorkerLight(state="idle", sentence="A worker runs, and no job is due.")
    if (now - first.not_before).total_seconds() < UNTAKEN_SECONDS:
        return WorkerLight(state="busy", sentence="A job waits to be taken.")
    return WorkerLight(
        state="stuck",
        sentence="Jobs are due, and the worker that runs takes none: look into its log.",
    )


def _counted(jobs: QuerySet[Job]) -> int:
    return jobs.order_by()[:MAX_COUNTED].count()


def _steps(job: Job) -> Iterator[Step]:
    yield Step(at=job.created_at, what="Asked for", detail=f"by {job.caller}")
    for entry in job.history:
        yield _attempt(entry)
    if job.status == Job.Status.PROCESSING and job.claimed_at:
        yield Step(at=job.claimed_at, what=f"Attempt {job.attempts} began")
    if job.waiting_until:
        yield Step(
            at=job.waiting_until,
            what="Next attempt",
            detail=job.waiting_reason or job.error,
            tone="warn",
        )
    if job.finished_at:
        tones: dict[str, Tone] = {"completed": "good", "failed": "bad"}
        yield Step(
            at=job.finished_at,
            what=str(job.get_status_display()),
            detail=job.error,
            tone=tones.get(job.status, ""),
        )
    if job.webhook_due_at:
        yield Step(
            at=job.webhook_due_at,
            what=f"Notice to {job.webhook_host} due",
            detail=job.webhook_error,
        )


def _attempt(entry: dict[str, object]) -> Step:
    outcome, times = str(entry["outcome"]), entry["times"]
    said = {
        "completed": "An attempt succeeded",
        "failed": "An attempt failed",
        "waits": "Put off",
        "interrupted": "Interrupted, to go on later",
    }
    tones: dict[str, Tone] = {"completed": "good", "failed": "bad", "waits": "warn"}
    often = f" ({times} times)" if times != 1 else ""
    return Step(
        at=datetime.fromisoformat(str(entry["ended"])),
        what=said.get(outcome, outcome) + often,
        detail=str(entry["reason"]),
        tone=tones.get(outcome, ""),
    )
