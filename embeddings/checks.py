"""System checks: set-ups that would be unsafe or cannot work stop the start, each naming its variable."""

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from embeddings.conf import JwtAlgorithm, conf
from providers.addresses import PROVIDER_NAME
from providers.engine import devices
from providers.engine.folders import find_model_folders, unreadable
from providers.registry import registry

KEY_MIN_LENGTH = 16
SECRET_MIN_LENGTH = 32
DISTINCT_MIN = 6  # different characters in a secret
RSA_MIN_BITS = 2048
# What people leave in from examples.
PLACEHOLDER_MARKS = (
    "your_api_key",
    "your-api-key",
    "your-secret",
    "your_secret",
    "secret-key",
    "secret_key",
    "django-insecure",
    "changeme",
    "change-me",
    "change_me",
    "example",
    "placeholder",
)


@register("embeddings")
def check_single_user_key(**_: Any) -> list[CheckMessage]:
    key = conf().single_user_api_key
    if conf().access.multi_user:
        return []
    if len(key) < KEY_MIN_LENGTH:
        return [
            Error(
                f"SINGLE_USER_API_KEY must have at least {KEY_MIN_LENGTH} characters.",
                id="embeddings.E001",
            )
        ]
    if is_placeholder(key):
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
def check_metrics_token(**_: Any) -> list[CheckMessage]:
    token = conf().access.metrics_token
    if not token or (
        len(token) >= KEY_MIN_LENGTH and token.isascii() and not is_placeholder(token)
    ):
        return []
    return [
        Error(
            f"METRICS_TOKEN must be random, with at least {KEY_MIN_LENGTH} ASCII characters.",
            id="embeddings.E010",
        )
    ]


@register("embeddings")
def check_secret_keys(**_: Any) -> list[CheckMessage]:
    keys = {"SECRET_KEY": settings.SECRET_KEY}
    if settings.SECRET_KEY_FALLBACKS:
        keys["SECRET_KEY_FORMER"] = settings.SECRET_KEY_FALLBACKS[0]
    return [problem for name, key in keys.items() for problem in _weak(name, key)]


@register("embeddings")
def check_jwt_secret(**_: Any) -> list[CheckMessage]:
    access = conf().access
    if not access.multi_user or access.jwt_algorithm != "HS256":
        return []
    if not access.jwt_secret_key:
        return [
            Error(
                "JWT_SECRET_KEY must be set when AUTH_MODE is multi_user (or JWT_PUBLIC_KEY, with JWT_ALGORITHM).",
                id="embeddings.E006",
            )
        ]
    former = access.former_jwt_secret_key
    return [
        *_weak("JWT_SECRET_KEY", access.jwt_secret_key),
        *(_weak("JWT_SECRET_KEY_FORMER", former) if former else ()),
    ]


def _weak(name: str, secret: str) -> list[CheckMessage]:
    if len(secret) < SECRET_MIN_LENGTH:
        return [
            Error(
                f"{name} must have at least {SECRET_MIN_LENGTH} characters.",
                id="embeddings.E007",
            )
        ]
    if is_placeholder(secret) or "-----BEGIN" in secret:
        return [
            Error(
                f"{name} is a placeholder or no secret; set a random key.",
                id="embeddings.E008",
            )
        ]
    return []


@register("embeddings")
def check_jwt_public_key(**_: Any) -> list[CheckMessage]:
    access = conf().access
    if not access.multi_user or access.jwt_algorithm == "HS256":
        return []
    if not access.jwt_public_key:
        return [
            Error(
                f"JWT_PUBLIC_KEY must be set when JWT_ALGORITHM is {access.jwt_algorithm}.",
                id="embeddings.E006",
            )
        ]
    kind = f"an RSA key of at least {RSA_MIN_BITS} bits"
    if access.jwt_algorithm == "ES256":
        kind = "a key on the curve P-256"
    keys = {
        "JWT_PUBLIC_KEY": access.jwt_public_key,
        "JWT_PUBLIC_KEY_FORMER": access.former_jwt_public_key,
    }
    return [
        Error(
            f"{name} must be {kind}, in PEM, without its private half.",
            id="embeddings.E009",
        )
        for name, key in keys.items()
        if key and not _fits_algorithm(key, access.jwt_algorithm)
    ]


@register("embeddings", deploy=True)
def check_public_url(**_: Any) -> list[CheckMessage]:
    if settings.LOOPBACK or settings.PUBLIC_URL.startswith("https://"):
        return []
    return [
        Warning(
            "PUBLIC_URL names no https:// address: keys and the console's cookies travel unencrypted.",
            hint="Let a proxy end TLS, and set PUBLIC_URL to the address it is reached at.",
            id="embeddings.W040",
        )
    ]


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
    # The console's rows are not asked: the database may not be there yet. `serve` looks there, too.
    return [
        Error(
            f"{variable} names {name!r}, which no provider can be called.",
            id="embeddings.E005",
        )
        for variable, names in named.items()
        for name in sorted(names - {*registry().installed()})
        if not PROVIDER_NAME.fullmatch(name)
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


@register("embeddings")
def check_telemetry(**_: Any) -> list[CheckMessage]:
    if conf().telemetry and not _has_opentelemetry():
        return [
            Error(
                "OTEL_EXPORTER_OTLP_ENDPOINT needs OpenTelemetry: pip install 'embeddings-server[otel]'.",
                id="embeddings.E021",
            )
        ]
    return []


@register("embeddings")
def check_model_folders(**_: Any) -> list[CheckMessage]:
    engine = settings.LOCAL_ENGINE
    folders = find_model_folders(engine["data_dir"] / "models", engine["model_paths"])
    return [
        Error(problem.message, id="embeddings.E030")
        if problem.fatal
        else Warning(problem.message, id="embeddings.W030")
        for problem in (*folders.problems, *unreadable(folders))
    ]


@register("embeddings")
def check_device(**_: Any) -> list[CheckMessage]:
    problem = devices.problem(settings.LOCAL_ENGINE.get("device", devices.AUTO))
    return [Error(problem, id="embeddings.E031")] if problem else []


def _has_opentelemetry() -> bool:
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http")
        return bool(found and find_spec("opentelemetry.sdk"))
    except ModuleNotFoundError:  # not even the packages around it
        return False


def is_placeholder(secret: str) -> bool:
    """Whether a secret comes from an example, or hardly varies."""
    marked = any(mark in secret.lower() for mark in PLACEHOLDER_MARKS)
    return marked or len(set(secret)) < DISTINCT_MIN


def _fits_algorithm(pem: str, algorithm: JwtAlgorithm) -> bool:
    # 8 MB in every process, and most have no public key to look at.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import (
        SECP256R1,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return False
    if algorithm == "RS256":
        return isinstance(key, RSAPublicKey) and key.key_size >= RSA_MIN_BITS
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
