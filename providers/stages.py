"""Where the time of a request goes, for its own record: seconds by stage (tokenise, queue, infer, upstream)."""

from contextvars import ContextVar

# Set by whoever keeps a record of the request under way, for the thread that serves it.
stages: ContextVar[dict[str, float] | None] = ContextVar("stages", default=None)


def spent(stage: str, seconds: float) -> None:
    """Add to a stage of the request under way, if anybody keeps a record of it."""
    record = stages.get()
    if record is not None:
        record[stage] = record.get(stage, 0.0) + seconds
