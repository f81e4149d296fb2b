"""Downloads and warm-ups written down while they run, so that all processes see how far they are and can cancel them.

Whoever does one keeps its row up to date each second, and so learns that somebody cancelled it. A row that says it runs
and was not written for a while is of a process that is gone: it is lost.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import structlog
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Max, QuerySet
from django.utils import timezone

from providers.exceptions import Abandoned, ActionCancelled, ProviderError
from providers.models import ModelAction
from providers.progress import Progress, progress_of
from providers.waiting import caller_left

BEAT_SECONDS = 1.0
LOST_AFTER = timedelta(seconds=20)
KEPT_ACTIONS = 500
SHOWN_ACTIONS = 8
RUNNING = ModelAction.State.RUNNING
DATABASE_PROBLEMS = (DatabaseError, InterfaceError)

Watch = Callable[[Progress], None]
Kind = Literal["download", "warm_up"]
State = Literal["running", "done", "failed", "cancelled", "lost"]

LOST = "Its process ended before it was done. Start it again: files that came whole are kept."
_WORDS: dict[str, State] = {
    "running": "running",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionState:
    """How a download or a warm-up stands. `total_bytes` is None while it is not known; `error` is one sentence."""

    kind: Kind
    state: State
    stage: str
    done_bytes: int
    total_bytes: int | None
    error: str | None
    started_by: str
    started_at: datetime
    finished_at: datetime | None
    cancelling: bool

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def percent(self) -> int | None:
        """How much of this stage's bytes are done; None where that is not known."""
        if not self.total_bytes:
            return None
        return min(100, self.done_bytes * 100 // self.total_bytes)


def new_action(kind: Kind, provider: str, model: str, *, by: str) -> ModelAction:
    """Write down that an action begins; old ones are forgotten."""
    row = ModelAction.objects.create(kind=kind, provider=provider, model=model, by=by)
    kept = ModelAction.objects.values_list("pk", flat=True)
    for pk in kept[KEPT_ACTIONS : KEPT_ACTIONS + 1]:
        ModelAction.objects.filter(pk__lte=pk).exclude(state=RUNNING).delete()
    return row


@contextlib.contextmanager
def recorded(
    kind: Kind,
    provider: str,
    model: str,
    *,
    by: str,
    row: ModelAction | None = None,
    watch: Watch | None = None,
) -> Iterator[Progress]:
    """Do an action inside of this: it is written down while it runs, and how it ended. `row`: it was begun already.

    Raises ActionCancelled where it was cancelled. While the database is away nothing is written, and it goes on.
    """
    if row is None:
        with _forgiving():
            row = new_action(kind, provider, model, by=by)
    done = Progress(watch)
    left = caller_left.get()
    tokens = (
        progress_of.set(done),
        caller_left.set(lambda: done.cancelled or left()),
    )
    state, problem = (
        ModelAction.State.FAILED,
        "It ended unexpectedly; the log has more.",
    )
    try:
        with _beating(row, done):
            yield done
        state, problem = ModelAction.State.DONE, ""
    except ProviderError as error:
        if not (done.cancelled and isinstance(error, ActionCancelled | Abandoned)):
            problem = error.message
            raise
        state, problem = ModelAction.State.CANCELLED, ""
        raise ActionCancelled(error.message) from error
    finally:
        progress_of.reset(tokens[0])
        caller_left.reset(tokens[1])
        with _forgiving():
            _finish(row, done, state, problem)


def beat(row: ModelAction, done: Progress) -> None:
    """Write how far the action is, and learn whether somebody cancelled it."""
    mine = ModelAction.objects.filter(pk=row.pk)
    mine.update(**_figures(done))
    if mine.filter(cancel_requested=True).exists():
        done.cancel()


def cancel_actions(kind: Kind, provider: str, model: str) -> bool:
    """Have all running actions of that kind and model stop; return whether there was one."""
    rows = _running(kind, provider, model)
    return bool(rows.update(cancel_requested=True))


def running_action(kind: Kind, provider: str, model: str) -> ModelAction | None:
    """Return the action of that kind that is under way for the model, if there is one."""
    return _running(kind, provider, model).first()


def latest_action(provider: str, model: str) -> ActionState | None:
    """Return the last action of a model; None if there was none, or the database is away."""
    try:
        row = ModelAction.objects.filter(provider=provider, model=model).first()
    except DATABASE_PROBLEMS:
        return None
    return _state_of(row) if row else None


def latest_actions() -> dict[tuple[str, str], ActionState]:
    """Return the last action of each model that had one, by provider and model."""
    last = ModelAction.objects.order_by().values("provider", "model")
    rows = ModelAction.objects.filter(
        pk__in=last.annotate(last=Max("pk")).values("last")
    )
    return {(row.provider, row.model): _state_of(row) for row in rows}


def recent_actions() -> list[tuple[str, str, ActionState]]:
    """Return what is under way and what ended last, newest first: provider, model and how it stands."""
    rows = ModelAction.objects.all()[:SHOWN_ACTIONS]
    return [(row.provider, row.model, _state_of(row)) for row in rows]


def _running(kind: Kind, provider: str, model: str) -> QuerySet[ModelAction]:
    return ModelAction.objects.filter(
        kind=kind,
        provider=provider,
        model=model,
        state=RUNNING,
        seen_at__gte=timezone.now() - LOST_AFTER,
    )


def _state_of(row: ModelAction) -> ActionState:
    lost = row.state == RUNNING and timezone.now() - row.seen_at > LOST_AFTER
    return ActionState(
        kind="download" if row.kind == ModelAction.Kind.DOWNLOAD else "warm_up",
        state="lost" if lost else _WORDS[row.state],
        stage=row.stage,
        done_bytes=row.done_bytes,
        total_bytes=row.total_bytes,
        error=LOST if lost else row.problem or None,
        started_by=row.by,
        started_at=row.started_at,
        finished_at=row.finished_at,
        cancelling=row.cancel_requested,
    )


@contextlib.contextmanager
def _beating(row: ModelAction | None, done: Progress) -> Iterator[None]:
    """Keep the row up to date from a thread of its own, since a stage may take minutes without a word."""
    if row is None:
        yield
        return
    stop = threading.Event()

    def look() -> None:
        with _forgiving():
            beat(row, done)

    def run() -> None:
        try:
            while not stop.wait(BEAT_SECONDS):
                look()
        finally:
            connections.close_all()

    done.look = look
    thread = threading.Thread(target=run, name="model-action", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _finish(
    row: ModelAction | None, done: Progress, state: ModelAction.State, problem: str
) -> None:
    if row is not None:
        ModelAction.objects.filter(pk=row.pk).update(
            state=state,
            problem=problem[:500],
            finished_at=timezone.now(),
            **_figures(done),
        )


def _figures(done: Progress) -> dict[str, object]:
    return {
        "stage": done.stage,
        "done_bytes": done.done_bytes,
        "total_bytes": done.total_bytes,
        "seen_at": timezone.now(),
    }


@contextlib.contextmanager
def _forgiving() -> Iterator[None]:
    """Note that the database is away, and go on: the model is what counts."""
    try:
        yield
    except DATABASE_PROBLEMS as error:
        log.warning("model_action_not_noted", reason=type(error).__name__)
