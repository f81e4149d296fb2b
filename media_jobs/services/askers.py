"""For whom a job runs: the caller who asked for it, with the rights it has now."""

from embeddings.access.callers import (
    caller_of_key,
    caller_of_user,
    known_keys,
    known_users,
)
from embeddings.services.callers import SINGLE_USER, SYSTEM, Caller
from embeddings.services.errors import NotAllowed


def asker(caller_id: str) -> Caller:
    """Return the caller of that id. Raises NotAllowed where it may not call any more."""
    for known in (SINGLE_USER, SYSTEM):
        if caller_id == known.id:
            return known
    kind, _, number = caller_id.partition(":")
    caller = _of_key(int(number)) if kind == "key" else _of_user(int(number))
    if caller is None:
        raise NotAllowed("Who asked for this job may not call any more.")
    return caller


def _of_user(pk: int) -> Caller | None:
    user = known_users().filter(pk=pk, is_active=True).first()
    return caller_of_user(user) if user else None


def _of_key(pk: int) -> Caller | None:
    key = known_keys().filter(pk=pk, user__is_active=True).first()
    return caller_of_key(key) if key and key.status == "active" else None
