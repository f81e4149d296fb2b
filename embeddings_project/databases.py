"""What a database's URL means to Django."""

from typing import Any

import dj_database_url

# IMMEDIATE, since DEFERRED transactions that read and then write fail under concurrency in SQLite.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def read_database(url: str) -> dict[str, Any]:
    """Return Django's settings of the database. Raises ValueError."""
    # Each thread keeps its connection: opening one costs more than looking up a key.
    database: dict[str, Any] = {
        **dj_database_url.parse(url),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }
    engine = database["ENGINE"].rpartition(".")[2]
    if engine == "sqlite3":
        database["OPTIONS"] = SQLITE_OPTIONS
    if engine in ("sqlite3", "postgresql"):
        database["ENGINE"] = f"providers.state.{engine}"
    return database
