"""Loaded before the settings: gives tests an environment of their own, whatever the shell holds."""

import os
from pathlib import Path

DATA_DIR = Path(__file__).parents[1] / ".tools" / "test-data"
OURS = (
    "EMBEDDINGS_",
    "ALLOWED_",
    "RATE_LIMIT_",
    "SINGLE_USER_",
    "LOCAL_API_",
    "AUTH_",
    "JWT_",
    "MEDIA_",
    "METRICS_",
    "UPSTREAM_",
)
SHARED = ("OPENAI_", "COHERE_", "VOYAGE_", "GOOGLE_", "GEMINI_", "MISTRAL_", "HF_")
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
    if name.startswith(OURS + SHARED) or name in NAMED:
        del os.environ[name]
os.environ["DATA_DIR"] = str(DATA_DIR)
