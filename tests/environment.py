"""Loaded before the settings: gives tests an environment of their own, whatever the shell holds."""

import os
from pathlib import Path

from embeddings_project.env import OWN_PREFIXES, PROVIDER_PREFIXES
from tests import databases

DATA_DIR = Path(__file__).parents[1] / ".tools" / "test-data"
OURS = (*OWN_PREFIXES, *PROVIDER_PREFIXES, "HF_", "OTEL_")
NAMED = (
    "DATABASE_URL",
    "DATABASE_TIMEOUT",
    "CACHE_URL",
    "HOST",
    "PORT",
    "DEBUG",
    "SECRET_KEY",
    "SECRET_KEY_FORMER",
    "PUBLIC_URL",
    "HSTS_SECONDS",
    "HTTPS_REDIRECT",
    "FORWARDED_ALLOW_IPS",
    "LOG_LEVEL",
    "CORS_ALLOWED_ORIGINS",
)

for name in [*os.environ]:
    if name.startswith(OURS) or name in NAMED:
        del os.environ[name]
os.environ["DATA_DIR"] = str(DATA_DIR)
# Several processes share the tests, and their matrices are small: more threads would wait for each other.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ |= databases.start()


def pytest_unconfigure():
    databases.stop()
