"""Where the time of a request goes, for its own record: seconds by stage (tokenise, queue, infer, upstream)."""

from collections.abc import Mapping
from contextvars import ContextVar

from providers import tracing

# Set by whoever keeps a record of the request under way, for the thread that serves it.
stages: ContextVar[dict[str, float] | None] = ContextVar("stages", default=None)


def spent(stage: str, seconds: float) -> None:
    """Add to a stage of the request under way, if anybody keeps a record of it."""
    record = stages.get()
    if record is not None:
        record[stage] = record.get(stage, 0.0) + seconds


def spent_in_turn(seconds: Mapping[str, float]) -> None:
    """Add stages that followed each other and have just ended, to the record and to the trace."""
    for stage, took in seconds.items():
        spent(stage, took)
    tracing.took_in_turn(seconds)
