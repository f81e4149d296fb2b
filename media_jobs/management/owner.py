"""For whom a command stores documents."""

from argparse import ArgumentParser

from django.core.management.base import CommandError

from embeddings.access.caller_lookup import caller_of_user, known_users
from embeddings.services.callers import SINGLE_USER, Caller


def add_owner(parser: ArgumentParser) -> None:
    parser.add_argument("--owner", help="The user they belong to (multi-user mode).")


def caller_of(owner: str | None) -> Caller:
    """Return the owner as a caller; the single user where none is named. Raises CommandError."""
    if owner is None:
        return SINGLE_USER
    user = known_users().filter(username=owner).first()
    if user is None:
        raise CommandError(f"There is no user {owner}.")
    return caller_of_user(user)
