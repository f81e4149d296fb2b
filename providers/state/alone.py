"""What one node at a time does to the database that several share."""

import contextlib
from collections.abc import Iterator

import structlog
from django.db import connection

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Wait until no other node is doing `what`, and be the one that does, inside of the `with`.

    PostgreSQL frees it when this process ends, however. SQLite is of one node, whose port is its lock.
    """
    if connection.vendor != "postgresql":
        yield
        return
    # A transaction of a connection of its own: a pool may hand the statements of another one to any server process.
    holder = connection.copy()
    try:
        holder.set_autocommit(False)
        with holder.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [what])
            if cursor.fetchone() == (False,):
                log.info("waits_for_another_node", doing=what)
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [what])
        yield
    finally:
        holder.close()
