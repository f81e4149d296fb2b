"""Logs: one JSON object a line, with the request's id in every line written while it is served, and keys in none."""

import json
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from structlog.typing import Processor

# Our own keys wherever they stand; others' where a word begins, for which JSON may write a line break as two letters.
KEY = re.compile(
    r"sk-[0-9a-f]{12}[\w-]{43}|(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))sk-[\w-]{16,}"
)
TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
SHORTEST_SECRET = 12
SELDOM_SECONDS = 600.0
HIDDEN: set[str] = set()

SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_config(*, level: str, log_format: str) -> dict[str, Any]:
    """Return Django's LOGGING and configure structlog, so that both end in the same handler on stderr."""
    # No line says where in the source it comes from, nor from which thread or process: logging's documentation offers
    # these settings to save the search.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    final: list[Processor] = (
        [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=as_json),
        ]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer()]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": JsonFormatter if log_format == "json" else LineFormatter,
                "foreign_pre_chain": [*SHARED, structlog.stdlib.ExtraAdder()],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *final,
                ],
            }
        },
        "filters": {"seldom": {"()": Seldom}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
            "seldom": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["seldom"],
            },
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.server": {"handlers": [], "level": "INFO", "propagate": True},
            # Every answer is logged once, by RequestContextMiddleware; Django's own 4xx lines would say it twice.
            "django.request": {"handlers": [], "level": "ERROR", "propagate": True},
            # A foreign Host header is the client's doing; the 400 is logged like any other.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            "django-q": {
                "level": "WARNING"
            },  # it tells every process that comes and goes
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            "huggingface_hub": {"level": "WARNING"},
            # What clients send as headers is no news.
            "opentelemetry.trace": {"level": "CRITICAL"},
            # Of a collector that is away it says much the same every few seconds.
            "opentelemetry": {
                "level": "WARNING",
                "handlers": ["seldom"],
                "propagate": False,
            },
        },
    }


def log_event(logger: logging.Logger, event: str, **fields: Any) -> None:
    """Write a line of level info like structlog's, for the one line that every request writes.

    structlog takes five times as long to put it together. What is bound to the context is not added.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    fields |= {"event": event, "level": "info", "logger": logger.name}
    fields["timestamp"] = moment
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, fields, (), None)
    # By these structlog's formatter knows its own.
    record.__dict__.update(_logger=logger, _name="info")
    logger.handle(record)


def id_of(environ: Mapping[str, Any]) -> str:
    """Return a request's id: the client's own if it is sane, or 32 hexadecimal digits.

    It goes into logs, answers and the audit log, which hold no keys. It is unique but no secret: real entropy would be
    a system call.
    """
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    if SANE_ID.fullmatch(given) and masked(given) == given:
        return given
    return f"{random.getrandbits(128):032x}"


class Seldom(logging.Filter):
    """Let one line pass in a while."""

    timer = staticmethod(time.monotonic)

    def __init__(self) -> None:
        super().__init__()
        self._again_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = self.timer()
        passes = now >= self._again_at
        if passes:
            self._again_at = now + SELDOM_SECONDS
        return passes


class LineFormatter(structlog.stdlib.ProcessorFormatter):
    """Write structlog's lines and those of others, with what looks like a key masked."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class JsonFormatter(LineFormatter):
    """Write what structlog has put together as it is; only tracebacks and the lines of others need the long way."""

    def format(self, record: logging.LogRecord) -> str:
        event = record.msg
        if isinstance(event, dict) and "exc_info" not in event:
            return masked(as_json(event, default=repr))
        return super().format(record)


def hide(*secrets: str | None) -> None:
    """Have no line hold these from now on, as they are or as JSON writes them. Short ones are words, and stay."""
    for secret in secrets:
        if secret and len(secret) >= SHORTEST_SECRET:
            HIDDEN.update((secret, json.dumps(secret)[1:-1]))


def masked(text: str) -> str:
    """Return a text without the secrets of this server and whatever has the form of a key or token.

    Clients put them into paths and other places by mistake.
    """
    for secret in HIDDEN:
        if secret in text:
            text = text.replace(secret, "…")
    if "sk-" in text:
        text = KEY.sub("sk-…", text)
    return TOKEN.sub("eyJ…", text) if "eyJ" in text else text


def as_json(event: Any, *, default: Callable[[Any], Any]) -> str:
    """Return a log line, which nothing in it can prevent."""
    try:
        return orjson.dumps(event, default=default).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, or an integer beyond 64 bits
        return json.dumps(event, default=default)
