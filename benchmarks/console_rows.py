"""What benchmarks/console.py lists: rows like those of a server that has been busy for a year."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice, product
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import Model

from embeddings.models import (
    HOUR,
    MINUTE,
    ApiKey,
    AuditEntry,
    EndUserDay,
    LatencyCount,
    Level,
    LoggedRequest,
    Traffic,
    UsageHour,
    UserLimits,
)
from embeddings.services.processes import QUEUED_TOKENS
from media_jobs.models import ItemVectors, Job, MediaItem, StoredChunk, VectorSpace
from media_jobs.vector_store.base import to_bytes
from media_jobs.vector_store.pgvector import PgVectorStore, prepare
from media_jobs.vector_store.store import choose
from providers.seeding import seed_registry

AMOUNTS = {
    "usage": 1_000_000,
    "end users": 60_000,
    "chunks": 100_000,  # half of them of one document
    "jobs": 20_000,
    "audit": 50_000,
    "people": 2_000,
    "minutes": 3 * 24 * 60,  # of traffic
    "hours": 400 * 24,
    "requests": 10_000,
}
BATCH = 2_000
HOURS = 365 * 24
MODELS = (
    ("openai", "text-embedding-3-small"),
    ("cohere", "embed-english-v3.0"),
    ("huggingface", "sentence-transformers/all-MiniLM-L6-v2"),
)
SPACE = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSIONS = 64  # few, so that pgvector's index is soon built
ENDPOINT = "POST /api/v1/embeddings"
STAGES = ("total", "queue", "infer", "tokenise")
CHUNK_CHARACTERS, STEP = 500, 400
SENTENCE = "The cat, whose whiskers were très longues, sat on the mat. "


def fill(share: float) -> User:
    """Make the rows, `share` of AMOUNTS, and return a superuser, whose half of it all is.

    Of each kind, the row made last has the most to show.
    """
    seed_registry(allowed_providers=[], allowed_models=[])
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    people = [
        User(username=f"user{n}", email=f"user{n}@example.org")
        for n in _numbers("people", share)
    ]
    User.objects.bulk_create(people)
    operator = User.objects.create_superuser("operator", password=None)
    UserLimits.objects.create(user=operator, monthly_tokens=10**9, max_documents=10**5)
    owners = [one for person in people for one in (person, operator)]
    with transaction.atomic():
        _store_usage(start, owners, share)
        _store_records(start, owners, share)
        _store_jobs(start, owners, _store_documents(start, owners, share), share)
        _store_traffic(start, share)
    return operator


def _store_usage(start: datetime, owners: list[User], share: float) -> None:
    prepare = UsageHour._meta.get_field("hour").get_db_prep_save
    hours = [prepare(start - timedelta(hours=n), connection) for n in range(HOURS)]

    def usage(n: int) -> tuple[Any, ...]:
        place, hour = divmod(n, HOURS)
        owner = owners[place % len(owners)]
        whose = (f"key:{place}", owner.username, owner.pk)
        return *whose, hours[hour], *MODELS[place % 3], n % 100, n % 10_000, n % 7

    names = "caller username user_id hour provider model requests tokens cost"
    _copy(UsageHour, names, map(usage, _numbers("usage", share)))

    def of_end_user(n: int) -> EndUserDay:
        day = (start - timedelta(days=n % 365)).date()
        return EndUserDay(caller="key:1", day=day, end_user=f"end-{n}")

    _store(EndUserDay, of_end_user, "end users", share)


def _store_records(start: datetime, owners: list[User], share: float) -> None:
    def key(n: int) -> ApiKey:
        owner = owners[n % len(owners)]
        return ApiKey(user=owner, name=f"key {n}", prefix=f"sk-{n:012x}", digest="d")

    def entry(n: int) -> AuditEntry:
        return AuditEntry(
            at=start - timedelta(minutes=10 * n),
            source=AuditEntry.Source.values[n % 3],
            actor=f"user{n % 50}",
            action=("add", "change", "delete", "revoke")[n % 4],
            target=f"API key sk-{n:012x}…",
            before={"name": "a", "burst": n},
            after={"name": "b", "burst": n + 1},
            request_id=f"request-{n}",
        )

    _store(ApiKey, key, "people", share)
    _store(AuditEntry, entry, "audit", share)


def _store_documents(
    start: datetime, owners: list[User], share: float
) -> list[MediaItem]:
    """Store documents with their chunks and vectors: many short ones, and one that has half of all chunks."""
    half = AMOUNTS["chunks"] * share // 2
    others = _numbers("people", share)
    counts = [max(1, int(half / len(others)))] * len(others) + [int(half)]
    items = [
        _document(n, chunks, owner, start - timedelta(minutes=len(counts) - n))
        for n, (chunks, owner) in enumerate(zip(counts, cycle(owners), strict=False))
    ]
    space = VectorSpace.objects.create(vector_space=SPACE, dimensions=DIMENSIONS)
    _store_all(MediaItem, iter(items))
    _store_all(
        ItemVectors,
        (
            ItemVectors(
                media=item,
                space=space,
                provider=MODELS[2][0],
                model=MODELS[2][1],
                chunks=item.embedding_count,
                version=space.version,
            )
            for item in items
        ),
    )
    _store_all(StoredChunk, (chunk for item in items for chunk in _chunks(item, space)))
    prepare(DEFAULT_DB_ALIAS)
    if isinstance(choose(), PgVectorStore):
        call_command("build_index", verbosity=0)
    return items


def _document(n: int, chunks: int, owner: User, at: datetime) -> MediaItem:
    characters = CHUNK_CHARACTERS + (chunks - 1) * STEP
    text = (SENTENCE * (characters // len(SENTENCE) + 1))[:characters]
    return MediaItem(
        title=f"Document {n}",
        owner=owner,
        content=text,
        characters=characters,
        text_bytes=len(text.encode()),
        checksum="a" * 64,
        embedded_checksum="a" * 64,
        created_at=at,
        embedded_at=at,
        embedding_provider=MODELS[2][0],
        embedding_model=MODELS[2][1],
        embedding_count=chunks,
        vector_space=SPACE,
        dimensions=DIMENSIONS,
    )


def _chunks(item: MediaItem, space: VectorSpace) -> Iterator[StoredChunk]:
    dice = np.random.default_rng(item.pk)
    for index in range(item.embedding_count):
        vector = dice.standard_normal(DIMENSIONS, dtype=np.float32)
        start = index * STEP
        yield StoredChunk(
            media=item,
            space=space,
            index=index,
            start=start,
            end=start + CHUNK_CHARACTERS,
            vector=to_bytes(vector / np.linalg.norm(vector)),
            text=item.content[start : start + CHUNK_CHARACTERS],
        )


def _store_jobs(
    start: datetime, owners: list[User], items: list[MediaItem], share: float
) -> None:
    """Store jobs; every hundredth is still in the queue, for the document with half of all chunks."""

    def job(n: int) -> Job:
        ended = Job.Status.values[2 + n % 3]
        return Job(
            public_id=f"mej_{n:024x}",
            media=items[n % len(items)] if n % 100 else items[-1],
            owner=owners[n % len(owners)],
            caller="key:1",
            status=ended if n % 100 else Job.Status.QUEUED,
            embedding_provider=MODELS[2][0],
            embedding_model=MODELS[2][1],
            chunk_size=CHUNK_CHARACTERS,
            chunk_overlap=CHUNK_CHARACTERS - STEP,
            fingerprint=f"{n:064x}",
            created_at=start - timedelta(minutes=20 * n),
        )

    _store(Job, job, "jobs", share)


def _store_traffic(start: datetime, share: float) -> None:
    """Store what charts show, every minute of three days and every hour of 400, and the last requests."""
    minutes = [
        (start - timedelta(minutes=n), MINUTE) for n in _numbers("minutes", share)
    ]
    hours = [(start - timedelta(hours=n), HOUR) for n in _numbers("hours", share)]
    slots = [(int(at.timestamp()), span) for at, span in minutes + hours]

    def traffic() -> Iterator[tuple[Any, ...]]:
        for slot, (provider, model) in product(slots, MODELS):
            asked = f"{provider}:{model}"
            yield *slot, ENDPOINT, provider, model, asked, "", 50, 90
            yield (
                *slot,
                ENDPOINT,
                provider,
                model,
                "openai:text-embedding-3-large",
                "",
                50,
                90,
            )
            yield *slot, ENDPOINT, "", "", model, "503", 2, 0

    names = "start span endpoint provider model asked outcome requests texts"
    _copy(Traffic, names, traffic())
    names = "start span provider model stage bucket requests"
    latencies = product(slots, MODELS, STAGES, range(4, 9))
    _copy(
        LatencyCount,
        names,
        ((*slot, *model, stage, bucket, 9) for slot, model, stage, bucket in latencies),
    )
    levels = ((*slot, QUEUED_TOKENS, 6, 9) for slot in slots)
    _copy(Level, "start span name samples highest", levels)

    def requests(n: int) -> LoggedRequest:
        return LoggedRequest(
            at=start - timedelta(seconds=n),
            request_id=f"request-{n}",
            endpoint=ENDPOINT,
            status=200 if n % 9 else 429,
            milliseconds=n % 100,
        )

    _store(LoggedRequest, requests, "requests", share)


def _numbers(what: str, share: float) -> range:
    return range(max(1, round(AMOUNTS[what] * share)))


def _store(
    model: type[Model], make: Callable[[int], Model], what: str, share: float
) -> None:
    _store_all(model, map(make, _numbers(what, share)))


def _store_all(model: type[Model], rows: Iterator[Any]) -> None:
    while batch := list(islice(rows, BATCH)):
        model._default_manager.bulk_create(batch)


def _copy(model: type[Model], names: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Store rows of these columns, as the database takes them, in a tenth of bulk_create's time."""
    fixed = {
        str(field.column): field.get_db_prep_save(field.get_default(), connection)
        for field in model._meta.concrete_fields
        if not field.primary_key and field.column not in names.split()
    }
    columns = ", ".join([*names.split(), *fixed])
    table, rest = model._meta.db_table, (*fixed.values(),)
    whole = (row + rest for row in rows)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in whole:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * (len(names.split()) + len(rest)))
            cursor.connection.executemany(
                f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608  (of ours)
                whole,
            )
