"""What benchmarks/console.py lists: rows like those of a server that has been busy for a year."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Any

from django.contrib.auth.models import User
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
)
from embeddings.services.processes import QUEUED_TOKENS
from media_jobs.models import Job, MediaItem, StoredChunk, VectorSpace
from providers.seeding import seed_registry

AMOUNTS = {
    "usage": 1_000_000,
    "end users": 60_000,
    "chunks": 100_000,
    "jobs": 20_000,
    "audit": 50_000,
    "people": 2_000,
}
BATCH = 2_000
HOURS = 365 * 24
MODELS = (
    ("openai", "text-embedding-3-small"),
    ("cohere", "embed-english-v3.0"),
    ("huggingface", "sentence-transformers/all-MiniLM-L6-v2"),
)


def fill(share: float) -> User:
    """Make the rows, `share` of AMOUNTS, and return a superuser."""
    seed_registry(allowed_providers=[], allowed_models=[])
    choose = random.Random(7)
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    people = [
        User(username=f"user{n}", email=f"user{n}@example.org")
        for n in _numbers("people", share)
    ]
    User.objects.bulk_create(people)
    operator = User.objects.create_superuser("operator", password=None)
    space = VectorSpace.objects.create(vector_space="a space", dimensions=8)
    MediaItem.objects.bulk_create(
        MediaItem(
            title=f"Document {n}",
            owner=choose.choice(people),
            content="The cat sat on the mat. " * 20,
            checksum="a" * 64,
            created_at=start - timedelta(minutes=n),
        )
        for n in _numbers("people", share)
    )
    items = list(MediaItem.objects.values_list("pk", flat=True))

    def usage(n: int) -> UsageHour:
        place, hour = divmod(n, HOURS)
        provider, model = MODELS[place % len(MODELS)]
        return UsageHour(
            caller=f"key:{place}",
            username=f"user{place}",
            user_id=people[place % len(people)].pk,
            hour=start - timedelta(hours=hour),
            provider=provider,
            model=model,
            requests=n % 100,
            tokens=n % 10_000,
            cost=n % 7,
        )

    _store(UsageHour, usage, "usage", share)
    _store(
        EndUserDay,
        lambda n: EndUserDay(
            caller="key:1",
            day=(start - timedelta(days=n % 365)).date(),
            end_user=f"end-{n}",
        ),
        "end users",
        share,
    )
    _store(
        ApiKey,
        lambda n: ApiKey(
            user=choose.choice(people),
            name=f"key {n}",
            prefix=f"sk-{n:012x}",
            digest="d",
        ),
        "people",
        share,
    )
    _store(
        AuditEntry,
        lambda n: AuditEntry(
            at=start - timedelta(minutes=10 * n),
            source=choose.choice(AuditEntry.Source.values),
            actor=f"user{n % 50}",
            action=choose.choice(["add", "change", "delete", "revoke"]),
            target=f"API key sk-{n:012x}…",
            before={"name": "a", "burst": n},
            after={"name": "b", "burst": n + 1},
            request_id=f"request-{n}",
        ),
        "audit",
        share,
    )
    _store(
        Job,
        lambda n: Job(
            public_id=f"mej_{n:024x}",
            media_id=choose.choice(items),
            owner=choose.choice(people),
            caller="key:1",
            status=choose.choice(["completed", "failed", "cancelled"]),
            embedding_provider="huggingface",
            embedding_model=MODELS[2][1],
            chunk_size=500,
            chunk_overlap=50,
            fingerprint="f" * 64,
            created_at=start - timedelta(minutes=20 * n),
        ),
        "jobs",
        share,
    )
    _store(
        StoredChunk,
        lambda n: StoredChunk(
            media_id=items[n % len(items)],
            space=space,
            index=n // len(items),
            start=0,
            end=100,
            vector=bytes(32),
            text="The cat sat on the mat. " * 4,
        ),
        "chunks",
        share,
    )
    _store_traffic(start)
    return operator


def _store_traffic(start: datetime) -> None:
    """What charts show: every minute of three days and every hour of 400, whatever the share; the last requests."""
    minutes = [(start - timedelta(minutes=n), MINUTE) for n in range(3 * 24 * 60)]
    hours = [(start - timedelta(hours=n), HOUR) for n in range(400 * 24)]
    slots = [(int(at.timestamp()), span) for at, span in minutes + hours]

    def traffic() -> Iterator[Model]:
        for (at, span), (provider, model) in product(slots, MODELS):
            place = {"start": at, "span": span, "endpoint": "POST /api/v1/embeddings"}
            named = {"provider": provider, "model": model, "requests": 50}
            yield Traffic(**place, **named, asked=f"{provider}:{model}", texts=90)
            yield Traffic(**place, **named, asked="openai:text-embedding-3-large")
            yield Traffic(**place, asked=model, outcome="503", requests=2)

    def requests() -> Iterator[Model]:
        for n in range(10_000):
            yield LoggedRequest(
                at=start - timedelta(seconds=n),
                request_id=f"request-{n}",
                endpoint="POST /api/v1/embeddings",
                status=200 if n % 9 else 429,
                milliseconds=n % 100,
            )

    _store_all(Traffic, traffic())
    _store_all(LoggedRequest, requests())
    _store_all(LatencyCount, _latencies(slots))
    _store_all(
        Level,
        (
            Level(start=at, span=span, name=QUEUED_TOKENS, samples=6, highest=9)
            for at, span in slots
        ),
    )


def _latencies(slots: list[tuple[int, int]]) -> Iterator[Model]:
    stages = ("total", "queue", "infer", "tokenise")
    for (at, span), (provider, model), stage, bucket in product(
        slots, MODELS, stages, range(4, 9)
    ):
        place = {"start": at, "span": span, "stage": stage, "bucket": bucket}
        yield LatencyCount(provider=provider, model=model, requests=9, **place)


def _numbers(what: str, share: float) -> range:
    return range(max(1, round(AMOUNTS[what] * share)))


def _store(
    model: type[Model], make: Callable[[int], Model], what: str, share: float
) -> None:
    _store_all(model, map(make, _numbers(what, share)))


def _store_all(model: type[Model], rows: Iterator[Any]) -> None:
    while batch := list(islice(rows, BATCH)):
        model._default_manager.bulk_create(batch)
