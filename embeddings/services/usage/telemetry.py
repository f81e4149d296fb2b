"""Traces and metrics for an OpenTelemetry collector, where one is set up; else nothing of OpenTelemetry is loaded."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from embeddings.conf import conf
from providers.state.process import owned
from providers.tracing import Attributes, opened

if TYPE_CHECKING:
    from embeddings.services.usage.otlp import Telemetry


@owned
def telemetry() -> "Telemetry | None":
    """Return what this process sends by, with threads of its own; None where nothing is sent."""
    wanted = conf().telemetry
    if wanted is None:
        return None
    from embeddings.services.usage.otlp import Telemetry  # takes a moment

    return Telemetry(wanted)


@contextlib.contextmanager
def traced(name: str, attributes: Attributes) -> Iterator[None]:
    """Make a trace of the block, for work that nobody asked for over HTTP; what is asked inside belongs to it."""
    sender = telemetry()
    if sender is None:
        yield
        return
    trace = sender.begun(name)
    trace.root.attributes |= attributes
    try:
        with opened(trace.root):
            yield
    finally:
        sender.send(trace)
