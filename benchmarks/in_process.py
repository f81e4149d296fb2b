"""The engine process of a running server without HTTP: asked by the service's own client, at its socket."""

import os
import threading
import time
from collections.abc import Iterator

import django

from benchmarks.child import answer_questions
from benchmarks.contestants import MINILM

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")
django.setup()

from providers.registry import registry  # noqa: E402  (after the setup)

TIMEOUT_SECONDS = 600.0


def short(
    provider: str, texts: list[str], clients: int, seconds: float
) -> dict[str, float]:
    """Embed texts one at a time for so many clients at once; return how many, and the seconds that took."""
    pending = iter(texts)
    lock = threading.Lock()
    done: list[str] = []
    started = time.perf_counter()

    def client() -> None:
        for text in _until(started + seconds, pending, lock):
            embed(provider, text)
            done.append(text)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"texts": len(done), "seconds": time.perf_counter() - started}


def embed(provider: str, text: str) -> None:
    local = registry().get(provider)
    if local is None or (model := registry().resolve(local, MINILM)) is None:
        raise LookupError(f"{provider} does not serve {MINILM}")
    local.embed(
        model,
        [text],
        dimensions=None,
        input_type="document",
        timeout_seconds=TIMEOUT_SECONDS,
    )


def _until(
    deadline: float, pending: Iterator[str], lock: threading.Lock
) -> Iterator[str]:
    while time.perf_counter() < deadline:
        with lock:
            text = next(pending, None)
        if text is None:
            return
        yield text


if __name__ == "__main__":
    answer_questions({"short": short})
