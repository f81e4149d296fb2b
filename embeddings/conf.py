"""The app's settings: one frozen object, built by the project's settings and read here."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

DEFAULT_LOCAL_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# Every model without an entry of its own: no local engine can serve a commercial model.
DEFAULT_FALLBACK_MODELS: Mapping[str, str] = {"*": DEFAULT_LOCAL_MODEL}

FallbackMode = Literal["any", "same_space", "off"]
DimensionsPolicy = Literal["reduce", "pad", "ignore"]
AuthMode = Literal["single_user", "multi_user"]
JwtAlgorithm = Literal["HS256", "RS256", "ES256"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessConf:
    """Who may call. The `jwt_` fields count in multi-user mode only; what a `former_` one signed still counts.

    `trusted_proxies`: how many proxies in front of the server add to X-Forwarded-For.
    `guesses_per_minute`: wrong keys and tokens of one address that are looked at; 0: all.
    `metrics_token`: lets a scraper read /metrics; `metrics_open`: everybody may.
    """

    mode: AuthMode = "single_user"
    jwt_algorithm: JwtAlgorithm = "HS256"
    jwt_secret_key: str = ""
    jwt_public_key: str = ""
    former_jwt_secret_key: str = ""
    former_jwt_public_key: str = ""
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    jwt_leeway_seconds: float = 10
    access_token_seconds: float = 3600
    refresh_token_seconds: float = 7 * 86400
    trusted_proxies: int = 0
    guesses_per_minute: int = 30
    metrics_token: str = ""
    metrics_open: bool = False

    @property
    def multi_user(self) -> bool:
        return self.mode == "multi_user"

    @property
    def makes_tokens(self) -> bool:
        """Whether this server can sign: with a public key it can only verify."""
        return self.multi_user and self.jwt_algorithm == "HS256"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterConf:
    """How often callers may come who have no limits of their own. `embeddings`: whether those endpoints take part."""

    enabled: bool
    embeddings: bool
    per_minute: int
    burst: int
    redis_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConf:
    """How many texts are cached for how long. Processes share them in Redis, else in the file, else not at all."""

    max_size: int
    ttl_seconds: int
    redis_url: str | None
    path: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConf:
    """What is sent to an OpenTelemetry collector. `environment`: the standard variables that its SDK reads."""

    traces: bool
    metrics: bool
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsConf:
    """How the server is set up.

    `fallback_chain`: provider -> its fallbacks, in order.
    `fallback_models`: model (exact, or ending in `*`) -> its fallback model.
    `usage_flush_seconds`: 0 means that usage is stored only when asked.
    `request_log`: how many of the last requests are kept. `traffic_minute_days`, `traffic_days`: how long what charts
    show is kept by the minute, and then by the hour; 0: for ever.
    """

    default_provider: str
    default_model: str
    fallback: FallbackMode
    fallback_chain: Mapping[str, tuple[str, ...]]
    fallback_models: Mapping[str, str]
    dimensions_policy: DimensionsPolicy
    request_timeout_seconds: float
    engine_timeout_seconds: float
    max_body_bytes: int
    cache: CacheConf
    single_user_api_key: str
    single_user_accept_bearer: bool
    limiter: LimiterConf
    usage_flush_seconds: float
    request_log: int = 10_000
    traffic_minute_days: int = 3
    traffic_days: int = 400
    access: AccessConf = AccessConf()
    telemetry: TelemetryConf | None = None


@functools.cache
def conf() -> EmbeddingsConf:
    """Return the settings in force. Every request asks several times, and Django's settings take their time."""
    return settings.EMBEDDINGS


@receiver(setting_changed)
def _read_again(*, setting: str, **_: Any) -> None:
    if setting == "EMBEDDINGS":
        conf.cache_clear()
