"""From a user or a key, as stored, to the caller that the services and the limiter know."""

from dataclasses import fields
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet

from embeddings.access.rights import admin_permissions, parsed
from embeddings.models import ApiKey, Limited, UserLimits
from embeddings.services.callers import SINGLE_USER, SYSTEM, Caller, CallerLimits

LIMIT_NAMES = tuple(field.name for field in fields(CallerLimits))


def known_users() -> QuerySet[User]:
    """Return the users as `caller_of_user` takes them: with their limits and permissions."""
    return User.objects.select_related("limits").annotate(
        permission_names=admin_permissions("pk")
    )


def known_keys() -> QuerySet[ApiKey]:
    """Return the keys as `caller_of_key` takes them: with their users, and their limits and permissions."""
    return ApiKey.objects.select_related("user", "user__limits").annotate(
        permission_names=admin_permissions("user_id", owner="user__")
    )


def shared_caller(row: ApiKey | User) -> Caller:
    """Return who calls with a row of a RowMemory: found once for each, as such a row is never changed."""
    known: Caller | None = vars(row).get("known_caller")
    if known is None:
        known = caller_of_key(row) if isinstance(row, ApiKey) else caller_of_user(row)
        vars(row)["known_caller"] = known
    return known


def caller_of_id(caller_id: str) -> Caller | None:
    """Return the caller of that id with the rights it has now; None where it may not call any more."""
    for known in (SINGLE_USER, SYSTEM):
        if caller_id == known.id:
            return known
    kind, _, number = caller_id.partition(":")
    if kind == "key":
        key = known_keys().filter(pk=int(number), user__is_active=True).first()
        return caller_of_key(key) if key and key.status == "active" else None
    user = known_users().filter(pk=int(number), is_active=True).first()
    return caller_of_user(user) if user else None


def console_caller(user: Any) -> Caller:
    """Return whoever is logged in to the console as a caller: with its own limits and budgets, as if by its token."""
    return caller_of_user(known_users().get(pk=user.pk))


def find_caller(name: str) -> Caller | None:
    """Return the caller of a username, or of what everyone may see of a key; None where it may not call."""
    key = known_keys().filter(prefix=name.rstrip("…"), user__is_active=True).first()
    if key is not None:
        return caller_of_key(key) if key.status == "active" else None
    user = known_users().filter(username=name, is_active=True).first()
    return caller_of_user(user) if user else None


def caller_of_user(user: User) -> Caller:
    """Return who calls with a token. `user` is one of `known_users`."""
    return Caller(
        id=f"user:{user.pk}",
        username=user.get_username(),
        is_admin=user.is_staff,
        is_superuser=user.is_staff and user.is_superuser,
        permissions=parsed(vars(user)["permission_names"]),
        user_id=user.pk,
        limits=merged_limits(user_limits(user)),
        shared_limits=frozenset(LIMIT_NAMES),
    )


def caller_of_key(key: ApiKey) -> Caller:
    """Return who calls with `key`, one of `known_keys`. A key that is narrower than its user has no admin rights."""
    user: User = key.user
    is_admin = user.is_staff and not key.narrowed
    return Caller(
        id=f"key:{key.pk}",
        username=user.get_username(),
        is_admin=is_admin,
        is_superuser=is_admin and user.is_superuser,
        permissions=parsed(vars(key)["permission_names"] if is_admin else ""),
        user_id=user.pk,
        key_id=key.pk,
        key_prefix=key.prefix,
        allowed_providers=tuple(key.allowed_providers),
        allowed_models=tuple(key.allowed_models),
        read_only_media=key.read_only_media,
        limits=merged_limits(key, user_limits(user)),
        shared_limits=frozenset(
            name for name in LIMIT_NAMES if getattr(key, name) is None
        ),
    )


def merged_limits(*rows: Limited | None) -> CallerLimits:
    """Return each limit from the first row that sets it."""
    return CallerLimits(**{name: _first(name, rows) for name in LIMIT_NAMES})


def user_limits(user: User) -> UserLimits | None:
    """Return the user's own limits, or None if nobody set any."""
    limits: UserLimits | None = getattr(user, "limits", None)
    return limits


def _first(name: str, rows: tuple[Limited | None, ...]) -> Any:
    values = (getattr(row, name) for row in rows if row is not None)
    return next((value for value in values if value is not None), None)
