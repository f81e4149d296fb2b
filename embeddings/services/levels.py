"""How things stand at the moment that Prometheus asks: levels that are looked up, since nobody counts them."""

from collections import Counter
from collections.abc import Callable

import structlog
from django.db import DatabaseError, InterfaceError
from prometheus_client import Gauge

from embeddings.services.breaker_states import breaker_states
from embeddings.services.health import disk_problem
from embeddings.services.pool_states import show_pools
from embeddings.services.processes import processes_here
from embeddings.services.space_watch import show_drift
from providers.metrics import BREAKER_STATES, breaker_state
from providers.state.database import LOOKUP_SECONDS, waits

ROLES = ("web", "engine", "worker")

degraded = Gauge(
    "embedding_degraded",
    "1 while a part does not work: disk (DATA_DIR cannot be written to), database (it does not answer).",
    ["part"],
    multiprocess_mode="mostrecent",
)
memory = Gauge(
    "embedding_process_memory_bytes",
    "Memory of this machine's processes, by what they are; a moment old.",
    ["role"],
    multiprocess_mode="mostrecent",
)
running = Gauge(
    "embedding_processes",
    "Processes of this machine that say that they run.",
    ["role"],
    multiprocess_mode="mostrecent",
)
# What other apps show; each may raise DatabaseError.
shown: list[Callable[[], None]] = []

log = structlog.get_logger(__name__)


def show_levels() -> None:
    """Have the metrics show how things stand. While the database is away, what it says stays as it was."""
    degraded.labels("disk").set(disk_problem() is not None)
    absent = False
    try:
        with waits.at_most(LOOKUP_SECONDS):
            for show in (
                _show_processes,
                _show_breakers,
                show_drift,
                show_pools,
                *shown,
            ):
                show()
    except (DatabaseError, InterfaceError) as error:
        log.warning("levels_not_shown", reason=type(error).__name__)
        absent = True
    degraded.labels("database").set(absent)


def _show_breakers() -> None:
    """Show what another node or an earlier start left open, too."""
    for one in breaker_states():
        breaker_state.labels(one.provider).set(BREAKER_STATES[one.state])


def _show_processes() -> None:
    bytes_of: Counter[str] = Counter()
    count_of: Counter[str] = Counter()
    for one in processes_here():
        if not one.is_silent:
            bytes_of[one.role] += one.memory_bytes
            count_of[one.role] += 1
    for role in {*ROLES, *count_of}:
        memory.labels(role).set(bytes_of[role])
        running.labels(role).set(count_of[role])
