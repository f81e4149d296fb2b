"""From an upstream's error answer to an exception and one public sentence. Knows no
sockets.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from providers.exceptions import (
    ProviderDenied,
    ProviderError,
    ProviderMalformed,
    ProviderRejected,
    ProviderThrottled,
    ProviderUnavailable,
)
from providers.remote.answers import Json

MAX_MESSAGE_CHARACTERS = 300
REMOVED = "[removed]"
# Shorter texts are likelier a part of the upstream's own words than an echo.
MIN_ECHO_CHARACTERS = 12

# 402: the operator's account has no credit; 407: the operator's proxy. As with 401 and
# 403, the caller did no wrong.
_DENIED = frozenset({401, 402, 403, 407})
# 424: text-embeddings-inference says so, on all its paths, when its model failed.
_PASSING = frozenset({408, 424, 425})

# "batch size 33 > maximum allowed batch size 32", "array too long. Expected … maximum length 2048", "at most 96 texts".
_TOO_MANY = re.compile(
    r"\b(?:batch|array|list) ?(?:size|length|too (?:long|large|big))\b"
    r"|\btoo many (?:inputs?|texts?|items|documents)\b"
    r"|\b(?:at most|more than|maximum (?:number )?of) \d+ (?:inputs?|texts?|items|documents)\b",
    re.IGNORECASE,
)
_URL = re.compile(r"\b[a-z][a-z0-9+.\-]{1,15}://\S+|\bwww\.\S+", re.IGNORECASE)
# Bearer tokens, vendors' key prefixes (also masked with asterisks), and anything long,
# unbroken and with a digit.
_KEY = re.compile(
    r"\b(?:bearer|basic)\s+\S+"
    r"|\b(?:sk|pk|pa|al|hf|co|key|ghp|gsk|xai)[-_][\w*.\-]{8,}"
    r"|\bAIza[\w*\-]{8,}"
    r"|(?=[A-Za-z_]*\d)[A-Za-z0-9_]{32,}",
    re.IGNORECASE,
)


def classify_status(status: int) -> type[ProviderError]:
    """Return the exception for a status that is not 200, by HTTP's own meaning."""
    if status in _DENIED:
        return ProviderDenied
    if status == 429:
        return ProviderThrottled
    if status >= 500 or status in _PASSING:
        return ProviderUnavailable
    if status >= 400:
        return ProviderRejected
    return ProviderMalformed  # redirects are refused, and only 200 carries vectors


def is_too_many(status: int, payload: Json) -> bool:
    """Whether an upstream refused a request for how many texts it held, as far as its words say.

    A 413 without words is a proxy's, and fewer texts are fewer bytes. With words it may be one text that is too long.
    """
    message = _message(payload)
    if message is None:
        return status == 413
    return status in (400, 413, 422) and _TOO_MANY.search(message) is not None


def describe(kind: type[ProviderError], provider: str, status: int) -> str:
    """Return the sentence for a failure whose upstream text stays inside."""
    if kind is ProviderDenied:
        return f"{provider} refused the server's credentials (HTTP {status})."
    if kind is ProviderThrottled:
        return f"{provider} is rate limiting this server (HTTP {status})."
    if kind is ProviderUnavailable:
        return f"{provider} is failing (HTTP {status})."
    if kind is ProviderMalformed and 300 <= status < 400:
        return f"{provider} answered with a redirect, which is refused (HTTP {status})."
    return f"{provider} gave an answer that cannot be used (HTTP {status})."


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the wait that `retry-after-ms` asks for (OpenAI's and Azure's), else `Retry-After`, in seconds or as a
    date (RFC 9110, section 10.2.3).
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "").strip()
    try:
        float(value)
    except ValueError:
        return _until(value, now)
    return _seconds(value)


def _seconds(value: str) -> float | None:
    """Return a finite number, at least 0, or None."""
    try:
        number = float(value)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(value: str, now: float) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)


def public_message(
    payload: Json, *, secrets: Iterable[str], texts: Iterable[str]
) -> str | None:
    """Return the upstream's own words in one bounded line, without keys, addresses and
    what the caller sent.
    """
    message = _message(payload)
    if message is None:
        return None
    for secret in secrets:
        message = message.replace(secret, REMOVED)
    for text in texts:
        if len(text) >= MIN_ECHO_CHARACTERS:
            message = message.replace(text, "[input]")
    message = "".join(
        character if character.isprintable() else " " for character in message
    )
    message = " ".join(_KEY.sub(REMOVED, _URL.sub(REMOVED, message)).split())
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    return message or None


def _message(payload: Json, depth: int = 0) -> str | None:
    """Find the sentence in the shapes that upstreams use: error.message, error,
    message, detail, detail[].msg.
    """
    if isinstance(payload, str):
        return payload
    if depth > 4:
        return None
    if isinstance(payload, list):
        return _message(payload[0], depth + 1) if payload else None
    if isinstance(payload, dict):
        found = (
            _message(payload.get(name), depth + 1)
            for name in ("error", "message", "detail", "msg", "errors")
        )
        return next((text for text in found if text), None)
    return None
