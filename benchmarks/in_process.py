"""The engine without HTTP, asked as the service asks it: the same requests, one thread for each connection."""

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import django

from benchmarks.child import answer_questions
from benchmarks.contestants import MODEL

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")
django.setup()

from django.core.management import call_command  # noqa: E402  (after the setup)

from providers.registry import registry  # noqa: E402

TIMEOUT_SECONDS = 600.0


def embed(provider: str, texts: list[str]) -> float:
    """Embed `texts` and return the seconds that took."""
    local = registry().get(provider)
    if local is None or (model := registry().resolve(local, MODEL)) is None:
        raise LookupError(f"{provider} does not serve {MODEL}")
    started = time.perf_counter()
    local.embed(
        model,
        texts,
        dimensions=None,
        input_type="document",
        timeout_seconds=TIMEOUT_SECONDS,
    )
    return time.perf_counter() - started


def single(provider: str, texts: list[str]) -> dict[str, float]:
    """Return the median milliseconds of one text at a time."""
    taken = [embed(provider, [text]) for text in texts]
    return {"p50_ms": statistics.median(taken) * 1000}


def bulk(provider: str, requests: list[list[str]], threads: int) -> dict[str, float]:
    """Return the seconds that all requests take."""
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda texts: embed(provider, texts), requests))
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    call_command("migrate", interactive=False, verbosity=0)
    answer_questions({"single": single, "bulk": bulk})
