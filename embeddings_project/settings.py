"""All settings, read once from the environment and from `.env` (the environment wins)."""

import os
from typing import Any
from urllib.parse import urlsplit

from embeddings.conf import (
    DEFAULT_FALLBACK_MODELS,
    AccessConf,
    CacheConf,
    EmbeddingsConf,
    LimiterConf,
)
from embeddings_project import __version__, cors, frameworks, layout
from embeddings_project.databases import read_database
from embeddings_project.env import Env
from embeddings_project.front.limits import read_front
from embeddings_project.local_engine import read_engine
from embeddings_project.logging import hide, logging_config
from embeddings_project.secrets import base64_secret, read_or_create_secret
from embeddings_project.shared_settings import node_name, shared_settings
from embeddings_project.site import (
    NO_REDIRECT,
    SILENCED_CHECKS,
    read_proxies,
    read_site,
)
from embeddings_project.telemetry import read_telemetry
from embeddings_project.upstreams import read_allowed_hosts, read_providers
from media_jobs.conf import MediaConf, queue_settings
from providers.built_in import built_in
from providers.engine.machine import usable_cores

BASE_DIR = layout.PACKAGE.parent

values = layout.with_env_file(os.environ)
env = Env(values)

# Where the server keeps what it makes: database, secrets, weights.
DATA_DIR = layout.data_dir(values)
env.text("DATA_DIR")  # known

# The address to serve at.
HOST = env.text("HOST", "127.0.0.1")
PORT = env.integer("PORT", 8000, minimum=1, maximum=65535)
# Where models run: `inline`, each process has its own, and one serves all cores.
ENGINE = env.choice("EMBEDDINGS_ENGINE", "auto", ("auto", "process", "inline"))
WEB_CONCURRENCY = env.integer(
    "WEB_CONCURRENCY",
    1 if ENGINE == "inline" else min(usable_cores(), 8),
    minimum=1,
    maximum=64,
)
WEB_THREADS = env.integer("WEB_THREADS", 64, minimum=2, maximum=512)
WEB_AFFINITY = env.boolean("WEB_AFFINITY", default=True)
LOOPBACK = HOST in ("127.0.0.1", "localhost", "::1")

# Security. The API authenticates by header; sessions and cookies serve the console alone.
DEBUG = env.boolean("DEBUG", default=False)
SECRET_KEY = env.secret("SECRET_KEY") or read_or_create_secret(DATA_DIR / "secret_key")
SECRET_KEY_FALLBACKS = [key for key in [env.secret("SECRET_KEY_FORMER")] if key]
site = read_site(env, loopback=LOOPBACK)
PUBLIC_URL, FORCE_SCRIPT_NAME = site.url, site.prefix or None
ALLOWED_HOSTS, CSRF_TRUSTED_ORIGINS = list(site.hosts), list(site.origins)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = site.https
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = f"{site.prefix}/"
SECURE_HSTS_SECONDS, SECURE_SSL_REDIRECT = site.hsts_seconds, site.redirect
SECURE_REDIRECT_EXEMPT = NO_REDIRECT
SILENCED_SYSTEM_CHECKS = SILENCED_CHECKS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
CORS_ALLOWED_ORIGINS = list(env.origins("CORS_ALLOWED_ORIGINS"))
CORS_URLS_REGEX, CORS_ALLOW_HEADERS = cors.PATHS, cors.REQUEST_HEADERS
CORS_EXPOSE_HEADERS = cors.ANSWER_HEADERS
AUTH_MODE = env.choice("AUTH_MODE", "single_user", ["single_user", "multi_user"])
MULTI_USER = AUTH_MODE == "multi_user"
GENERATED_API_KEY_FILE = DATA_DIR / "api_key"
given_api_key = env.secret("SINGLE_USER_API_KEY")
API_KEY_IS_GENERATED = given_api_key is None and not MULTI_USER
API_KEY_WAS_MADE = API_KEY_IS_GENERATED and not GENERATED_API_KEY_FILE.exists()
ACCESS = AccessConf(
    mode=AUTH_MODE,  # type: ignore[arg-type]
    jwt_algorithm=env.choice(
        "JWT_ALGORITHM", "hs256", ["hs256", "rs256", "es256"]
    ).upper(),  # type: ignore[arg-type]
    jwt_secret_key=env.secret("JWT_SECRET_KEY") or "",
    jwt_public_key=(env.secret("JWT_PUBLIC_KEY") or "").replace("\\n", "\n"),
    former_jwt_secret_key=env.secret("JWT_SECRET_KEY_FORMER") or "",
    former_jwt_public_key=(env.secret("JWT_PUBLIC_KEY_FORMER") or "").replace(
        "\\n", "\n"
    ),
    jwt_audience=env.text("JWT_AUDIENCE") or None,
    jwt_issuer=env.text("JWT_ISSUER") or None,
    jwt_leeway_seconds=env.seconds("JWT_LEEWAY", 10, maximum=300),
    access_token_seconds=env.seconds("JWT_ACCESS_TTL", 3600, maximum=86400),
    refresh_token_seconds=env.seconds(
        "JWT_REFRESH_TTL", 7 * 86400, maximum=365 * 86400
    ),
    trusted_proxies=env.integer("AUTH_TRUSTED_PROXIES", 0, minimum=0, maximum=16),
    guesses_per_minute=env.integer(
        "AUTH_GUESSES_PER_MINUTE", 30, minimum=0, maximum=10_000
    ),
    metrics_token=env.secret("METRICS_TOKEN") or "",
    metrics_open=env.boolean("METRICS_OPEN", default=False),
)
FORWARDED_ALLOW_IPS = read_proxies(env, counted=ACCESS.trusted_proxies)
# What REST framework's token library takes from here; keys and lifetimes come from ACCESS.
SIMPLE_JWT = {"USER_ID_CLAIM": "sub", "USER_ID_FIELD": "username", "JTI_CLAIM": None}

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_prometheus",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
    "embeddings_project",
    "media_jobs",
    "embeddings",
    "providers",
]

# What gives each answer its security headers.
HEADER_MIDDLEWARE = [
    "embeddings_project.content_policy.ContentPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
MIDDLEWARE = [
    "embeddings_project.middleware.RequestContextMiddleware",
    "embeddings_project.middleware.RequestBodyMiddleware",
    *(["corsheaders.middleware.CorsMiddleware"] if CORS_ALLOWED_ORIGINS else []),
    "embeddings_project.api_middleware.ApiMiddleware",
    "embeddings.fast_path.middleware.FastPathMiddleware",  # what follows is for pages
    *HEADER_MIDDLEWARE,
    "embeddings_project.static_files.StaticFilesMiddleware",
    "embeddings_project.middleware.PageCompressionMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "embeddings.console.time_zone.TimeZoneMiddleware",
]

ROOT_URLCONF = "embeddings_project.urls"
WSGI_APPLICATION = "embeddings_project.wsgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [layout.TEMPLATES],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

database: dict[str, Any] = {}
try:
    database = read_database(
        env.secret("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'db.sqlite3'}"
    )
except ValueError:
    env.problem(
        "DATABASE_URL",
        "must look like sqlite:///path or postgres://user:password@host:port/name",
    )
DATABASES = {"default": database}
# The longest that a request waits for PostgreSQL's next answer.
DATABASE_TIMEOUT_SECONDS = env.seconds("DATABASE_TIMEOUT", 10, maximum=600)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = frameworks.AUTH_PASSWORD_VALIDATORS
CSRF_FAILURE_VIEW = "embeddings_project.error_pages.csrf_failure"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "embeddings_project.formats"
STATIC_URL = "static/"
# Nothing to collect: the console's files are served from the packages.
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "embeddings_project.static_files.VersionedStorage"},
}

LOG_LEVEL = env.choice("LOG_LEVEL", "info", ["debug", "info", "warning", "error"])
LOG_FORMAT = env.choice("LOG_FORMAT", "json", ["json", "console"])
LOGGING = logging_config(level=LOG_LEVEL.upper(), log_format=LOG_FORMAT)


# The embeddings API.
def read_chain() -> dict[str, tuple[str, ...]]:
    default = {one.name: one.fallback for one in built_in()}
    chain = env.json_object("EMBEDDINGS_FALLBACK_CHAIN", default)
    if not all(
        isinstance(to, list | tuple) and all(isinstance(name, str) for name in to)
        for to in chain.values()
    ):
        env.problem(
            "EMBEDDINGS_FALLBACK_CHAIN", "must map each provider to a list of providers"
        )
        return {}
    return {
        provider.lower(): tuple(name.lower() for name in to)
        for provider, to in chain.items()
    }


def read_model_map() -> dict[str, str]:
    models = env.json_object("EMBEDDINGS_FALLBACK_MODEL_MAP", DEFAULT_FALLBACK_MODELS)
    if not all(isinstance(model, str) and model for model in models.values()):
        env.problem(
            "EMBEDDINGS_FALLBACK_MODEL_MAP",
            "must map each model to the name of another",
        )
        return {}
    return dict(models)


def read_redis_url() -> str | None:
    url = env.secret("CACHE_URL")
    try:
        parts = urlsplit(url or "")
        sound = (parts.scheme in ("redis", "rediss") and parts.port != 0) or (
            parts.scheme == "unix" and bool(parts.path)
        )
    except ValueError:
        sound = False
    if url and not sound:
        env.problem("CACHE_URL", "must look like redis://host:6379/0")
        return None
    return url


REDIS_URL = read_redis_url()
REQUEST_TIMEOUT_SECONDS = env.seconds("EMBEDDINGS_REQUEST_TIMEOUT", 30, maximum=600)
EMBEDDINGS = EmbeddingsConf(
    default_provider=env.text("EMBEDDINGS_DEFAULT_PROVIDER", "openai").lower(),
    default_model=env.text("EMBEDDINGS_DEFAULT_MODEL", "text-embedding-3-small"),
    fallback=env.choice("EMBEDDINGS_FALLBACK", "any", ["any", "same_space", "off"]),  # type: ignore[arg-type]
    fallback_chain=read_chain(),
    fallback_models=read_model_map(),
    dimensions_policy=env.choice(
        "EMBEDDINGS_DIMENSION_POLICY", "reduce", ["reduce", "pad", "ignore"]
    ),  # type: ignore[arg-type]
    request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
    engine_timeout_seconds=env.seconds("EMBEDDINGS_ENGINE_TIMEOUT", 600, maximum=86400),
    max_body_bytes=env.integer(
        "EMBEDDINGS_MAX_BODY_BYTES", 32 * 2**20, minimum=1024, maximum=2**30
    ),
    cache=CacheConf(
        max_size=env.integer(
            "EMBEDDINGS_CACHE_SIZE", 5000, minimum=0, maximum=10_000_000
        ),
        ttl_seconds=env.integer(
            "EMBEDDINGS_CACHE_TTL", 3600, minimum=1, maximum=31_536_000
        ),
        redis_url=REDIS_URL,
        path=DATA_DIR / "cache.sqlite3",
    ),
    single_user_api_key=given_api_key
    or (
        ""
        if MULTI_USER
        else read_or_create_secret(GENERATED_API_KEY_FILE, prefix="sk-")
    ),
    single_user_accept_bearer=env.boolean("SINGLE_USER_ACCEPT_BEARER", default=False),
    access=ACCESS,
    telemetry=read_telemetry(env),
    limiter=LimiterConf(
        enabled=env.boolean("RATE_LIMIT_ENABLED", default=True),
        embeddings=env.boolean("EMBEDDINGS_RATE_LIMIT", default=False),
        per_minute=env.integer(
            "RATE_LIMIT_PER_MINUTE", 60, minimum=1, maximum=10_000_000
        ),
        burst=env.integer("RATE_LIMIT_BURST", 10, minimum=1, maximum=10_000_000),
        redis_url=REDIS_URL,
    ),
    usage_flush_seconds=env.seconds("EMBEDDINGS_USAGE_FLUSH", 3, maximum=600),
    request_log=env.integer("REQUEST_LOG_ROWS", 10_000, minimum=0, maximum=10_000_000),
    traffic_minute_days=env.integer("TRAFFIC_MINUTE_DAYS", 3, minimum=1, maximum=90),
    traffic_days=env.integer("TRAFFIC_DAYS", 400, minimum=0, maximum=36_500),
)
DATA_UPLOAD_MAX_MEMORY_SIZE = EMBEDDINGS.max_body_bytes

# Documents and the jobs that embed them.
MEDIA_JOBS = MediaConf(
    max_bytes=env.integer("MEDIA_MAX_BYTES", 50 * 2**20, minimum=1024, maximum=2**30),
    workers=env.integer("MEDIA_WORKERS", 1, minimum=0, maximum=64),
    extractions=env.integer(
        "MEDIA_EXTRACTIONS", min(4, os.cpu_count() or 1), minimum=1, maximum=64
    ),
    work_dir=DATA_DIR / "jobs",
    wait_days=env.integer("MEDIA_JOB_WAIT_DAYS", 7, minimum=1, maximum=365),
    max_documents=env.integer("MEDIA_MAX_DOCUMENTS", 100_000, minimum=0, maximum=2**40),
    max_stored_bytes=env.integer(
        "MEDIA_MAX_STORED_BYTES", 10 * 2**30, minimum=0, maximum=2**50
    ),
    max_queued_jobs=env.integer(
        "MEDIA_MAX_QUEUED_JOBS", 10_000, minimum=0, maximum=2**30
    ),
    search_memory_bytes=env.integer(
        "MEDIA_SEARCH_MEMORY_BYTES", 512 * 2**20, minimum=0, maximum=2**40
    ),
    pgvector_type=env.choice("MEDIA_PGVECTOR_TYPE", "halfvec", ("halfvec", "vector")),
    pgvector_ef_search=env.integer(
        "MEDIA_PGVECTOR_EF_SEARCH", 512, minimum=1, maximum=1000
    ),
    webhook_secret=env.signing_secret("MEDIA_WEBHOOK_SECRET")
    or read_or_create_secret(
        DATA_DIR / "webhook_secret", prefix="whsec_", make=base64_secret
    ),
    webhook_allow_private=env.boolean("MEDIA_WEBHOOK_ALLOW_PRIVATE", default=False),
)

HTTP_FRONT = read_front(
    env,
    processes=WEB_CONCURRENCY,
    largest_body=max(DATA_UPLOAD_MAX_MEMORY_SIZE, MEDIA_JOBS.max_bytes + 2**20),
    folder=DATA_DIR,
    shared_addresses=ACCESS.trusted_proxies > 0,
)

Q_CLUSTER = queue_settings(MEDIA_JOBS)

# These seed the console's allowlists at the first start; afterwards the console decides.
ALLOWED_EMBEDDING_PROVIDERS = env.words("ALLOWED_EMBEDDING_PROVIDERS")
ALLOWED_EMBEDDING_MODELS = env.words("ALLOWED_EMBEDDING_MODELS")

# Whether remote models are watched for other vectors under the same name.
EMBEDDINGS_CANARY = env.boolean("EMBEDDINGS_CANARY", default=True)

# Whether the API goes round Django and REST framework for speed: `embeddings/fast_path/`.
EMBEDDINGS_FAST_PATH = env.boolean("EMBEDDINGS_FAST_PATH", default=True)

LOCAL_ENGINE = read_engine(env, data_dir=DATA_DIR, mode=ENGINE)

PROVIDERS = read_providers(
    env,
    data_dir=DATA_DIR,
    engine=LOCAL_ENGINE,
    timeout_seconds=REQUEST_TIMEOUT_SECONDS,
)
UPSTREAM_ALLOWED_HOSTS = read_allowed_hosts(env)

REST_FRAMEWORK = frameworks.REST_FRAMEWORK
SPECTACULAR_SETTINGS = frameworks.SPECTACULAR_SETTINGS
if site.prefix:
    SPECTACULAR_SETTINGS = {**SPECTACULAR_SETTINGS, "SERVERS": [{"url": site.prefix}]}
UNFOLD = frameworks.UNFOLD

# What this node is called, and what the others compare: `embeddings/services/nodes.py`.
NODE_NAME = node_name(DATA_DIR, engine=database.get("ENGINE", ""))
NODE_SETTINGS = shared_settings(
    env.read
    | {
        "release": __version__,
        "SECRET_KEY": SECRET_KEY,
        "SINGLE_USER_API_KEY": EMBEDDINGS.single_user_api_key,
        "MEDIA_WEBHOOK_SECRET": MEDIA_JOBS.webhook_secret,
        "CACHE_URL": bool(REDIS_URL),
    }
)

hide(*env.secrets, SECRET_KEY, EMBEDDINGS.single_user_api_key)
env.finish()
