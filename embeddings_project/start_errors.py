"""Errors that only the operator can repair, in plain sentences: a traceback would bury them."""

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InternalError,
    NotSupportedError,
)

from providers.command import COMMAND

EXPLAINED = (ImproperlyConfigured, DatabaseError)
# Of one statement or its values: our fault, which only a traceback explains.
OUR_FAULT = (IntegrityError, DataError, InternalError, NotSupportedError)


def explain(error: Exception) -> str | None:
    """Return the sentence for one of EXPLAINED, or None where a traceback says more."""
    if not isinstance(error, DatabaseError):
        return str(error)
    return None if isinstance(error, OUR_FAULT) else _explain_database(error)


def _explain_database(error: DatabaseError) -> str:
    database, reason = (
        settings.DATABASES["default"],
        " ".join(str(error).split()).rstrip(".?"),
    )
    sqlite = database["ENGINE"].endswith("sqlite3")
    where = database["NAME"] if sqlite else "that DATABASE_URL names"
    if "no such table" in reason or "does not exist" in reason:
        remedy = f"Run `{COMMAND} migrate` (`serve` does so at its start)."
    elif "not a database" in reason or "malformed" in reason:
        remedy = "Put a backup in its place, or move it (and its -wal and -shm) away to begin with an empty one."
    else:
        remedy = "See that it is there and that this user may write to it."
    return f"The database {where} cannot be used: {reason}. {remedy}"
