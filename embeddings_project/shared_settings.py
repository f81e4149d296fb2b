"""What nodes on one database compare: each setting but those of one machine, as digests that say nothing of them."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from embeddings_project.secrets import read_or_create_secret

# Bits enough to see that two values differ; so few that of many guesses at a weak secret many fit.
DIGITS = 5
# What may differ from node to node.
OF_ONE_NODE = frozenset(
    {
        *("DATA_DIR", "HOST", "PORT", "ALLOWED_HOSTS", "FORWARDED_ALLOW_IPS"),
        *("DATABASE_URL", "DATABASE_TIMEOUT", "DRAIN_SECONDS", "DEBUG"),
        *("WEB_CONCURRENCY", "WEB_THREADS", "WEB_AFFINITY", "LOG_LEVEL", "LOG_FORMAT"),
        *("METRICS_TOKEN", "METRICS_OPEN", "HF_ENDPOINT", "HF_TOKEN"),
        *("EMBEDDINGS_ENGINE", "EMBEDDINGS_DEVICE", "EMBEDDINGS_ENGINE_THREADS"),
        *("EMBEDDINGS_ENGINE_QUEUE_TOKENS", "EMBEDDINGS_MODELS_MAX_MB"),
        *("EMBEDDINGS_MODEL_IDLE", "EMBEDDINGS_MODEL_PATHS", "EMBEDDINGS_FAST_PATH"),
        *("MEDIA_WORKERS", "MEDIA_EXTRACTIONS", "MEDIA_SEARCH_MEMORY_BYTES"),
    }
)
OF_ONE_NODE_PREFIXES = ("HTTP_", "OTEL_")


def node_name(data_dir: Path, *, engine: str) -> str:
    """Return what this node is called, drawn once; empty with SQLite, whose file has one node."""
    if not engine.endswith("postgresql"):
        return ""
    path = data_dir / "node"
    try:
        return read_or_create_secret(path, make=lambda: secrets.token_hex(8))
    except ImproperlyConfigured:
        return (
            ""  # a command goes without; a server says itself that it needs the folder
        )


def shared_settings(values: Mapping[str, object]) -> dict[str, str]:
    """Return a short digest of each value, by the setting's name."""
    return {
        name: _digest(name, value)
        for name, value in sorted(values.items())
        if name not in OF_ONE_NODE and not name.startswith(OF_ONE_NODE_PREFIXES)
    }


def _digest(name: str, value: object) -> str:
    written = json.dumps(value, sort_keys=True, default=str).encode()
    return hmac.new(name.encode(), written, hashlib.sha256).hexdigest()[:DIGITS]
