"""How keys and tokens look on the wire, and what is asked of a new key."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from embeddings.access.api_keys import NewKey, expiry
from embeddings.access.callers import LIMIT_NAMES
from embeddings.api.operations import timestamp
from embeddings.models import ApiKey
from embeddings.services.callers import CallerLimits


def new_key(body: Mapping[str, Any]) -> NewKey:
    """Build the request for a key from a checked body."""
    return NewKey(
        name=body.get("name", ""),
        expires_at=expiry(body.get("expires_in_days")),
        allowed_providers=body.get("allowed_providers", ()),
        allowed_models=body.get("allowed_models", ()),
        read_only_media=body.get("read_only_media", False),
        limits=CallerLimits(**body.get("limits", {})),
    )


def key_report(key: ApiKey) -> dict[str, Any]:
    """Return a key as its owner sees it afterwards: never its text."""
    return {
        "id": key.pk,
        "name": key.name,
        "prefix": key.prefix,
        "user": key.user.get_username(),
        "status": key.status,
        "created_at": timestamp(key.created_at),
        "last_used_at": timestamp(key.last_used_at),
        "expires_at": timestamp(key.expires_at),
        "revoked_at": timestamp(key.revoked_at),
        "allowed_providers": key.allowed_providers,
        "allowed_models": key.allowed_models,
        "read_only_media": key.read_only_media,
        "limits": {name: _number(getattr(key, name)) for name in LIMIT_NAMES},
    }


def key_list(keys: Iterable[ApiKey]) -> dict[str, Any]:
    """Return keys as a list."""
    return {"data": [key_report(key) for key in keys]}


def _number(value: Decimal | int | None) -> float | int | None:
    return float(value) if isinstance(value, Decimal) else value
