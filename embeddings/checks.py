"""System checks: set-ups that would be unsafe or cannot work stop the start, each naming its variable."""

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from embeddings.conf import conf
from providers.registry import registry

KEY_MIN_LENGTH = 16
# What people leave in from examples.
PLACEHOLDER_MARKS = (
    "your_api_key",
    "your-api-key",
    "changeme",
    "change-me",
    "change_me",
    "example",
    "placeholder",
)


@register("embeddings")
def check_single_user_key(**_: Any) -> list[CheckMessage]:
    key = conf().single_user_api_key
    if len(key) < KEY_MIN_LENGTH:
        return [
            Error(
                f"SINGLE_USER_API_KEY must have at least {KEY_MIN_LENGTH} characters.",
                id="embeddings.E001",
            )
        ]
    if any(mark in key.lower() for mark in PLACEHOLDER_MARKS) or len(set(key)) < 6:
        return [
            Error(
                "SINGLE_USER_API_KEY is a placeholder; set a random key.",
                id="embeddings.E002",
            )
        ]
    if not key.isascii() or not key.isprintable() or " " in key:
        return [
            Error(
                "SINGLE_USER_API_KEY must be printable ASCII without spaces.",
                id="embeddings.E003",
            )
        ]
    return []


@register("embeddings")
def check_debug(**_: Any) -> list[CheckMessage]:
    if settings.DEBUG and not settings.LOOPBACK:
        return [
            Error(
                "DEBUG must be off when HOST is not a loopback address.",
                id="embeddings.E004",
            )
        ]
    return []


@register("embeddings")
def check_providers(**_: Any) -> list[CheckMessage]:
    named = {
        "EMBEDDINGS_DEFAULT_PROVIDER": {conf().default_provider},
        "EMBEDDINGS_FALLBACK_CHAIN": {
            *conf().fallback_chain,
            *(n for to in conf().fallback_chain.values() for n in to),
        },
    }
    known = set(registry().names())
    return [
        Error(
            f"{variable} names unknown providers: {', '.join(sorted(names - known))}.",
            id="embeddings.E005",
        )
        for variable, names in named.items()
        if names - known
    ]


@register("embeddings")
def check_redis(**_: Any) -> list[CheckMessage]:
    if conf().limiter.redis_url and find_spec("redis") is None:
        return [
            Error(
                "CACHE_URL needs the Redis client: pip install 'embeddings-server[redis]'.",
                id="embeddings.E020",
            )
        ]
    return []
