"""One run of one job: text -> chunks -> vectors -> the store, giving way whenever the job is no longer its own."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from embeddings.services.budgets import check_budgets
from embeddings.services.callers import Caller
from embeddings.services.embed import embed
from embeddings.services.errors import (
    ServiceError,
    ServiceUnavailable,
)
from embeddings.services.routing import find_target
from embeddings.services.space_watch import confirm_again
from embeddings.services.types import EmbeddingRequest, Target
from media_jobs.chunking import Span, TokenLimit, spans
from media_jobs.conf import conf
from media_jobs.models import Job, MediaItem
from media_jobs.services.askers import asker
from media_jobs.services.claims import (
    ClaimLost,
    complete,
    fail,
    hand_back,
    try_again,
    write,
)
from media_jobs.services.spool import Spool, discard
from media_jobs.vector_store.base import Chunk, Space, Superseded, vector_store
from providers.base import Vectors
from providers.exceptions import ProviderError, ProviderMisconfigured, ProviderRejected
from providers.registry import registry

BATCH_CHUNKS = 128
HEARTBEAT_SECONDS = 5.0
# What no second attempt mends: the operator must act first.
LASTING_REASONS = {"not_configured", "denied", "drifted"}
ENDED = (Job.Status.COMPLETED, Job.Status.FAILED, Job.Status.CANCELLED)
SERVER_FAILED = "The server failed; its log has the details under the id of this job."

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What one run embeds: the text as it was read, where its chunks lie, by which model, for whom."""

    job: Job
    item: MediaItem
    caller: Caller
    target: Target
    spans: list[Span]

    def text(self, span: Span) -> str:
        return self.item.content[span.start : span.end]


def run(job: Job, *, until: float) -> None:
    """Run a claimed job to its end, or until that moment (monotonic seconds), to go on at another time."""
    with structlog.contextvars.bound_contextvars(job_id=job.public_id):
        try:
            _run_and_settle(job, until=until)
        except ClaimLost:
            log.info("media_job_given_up")
        if Job.objects.filter(pk=job.pk).exclude(status__in=ENDED).exists():
            return
        discard(conf().work_dir, job.public_id)


def _run_and_settle(job: Job, *, until: float) -> None:
    try:
        _embed_item(job, until=until)
    except (ServiceUnavailable, ProviderError) as error:
        if _is_lasting(error):
            fail(job, error.message)
        else:
            pause = getattr(error, "retry_after_seconds", None)
            try_again(job, error.message, pause_seconds=pause)
    except ServiceError as error:
        fail(job, error.message)
    except (DatabaseError, InterfaceError) as error:
        log.warning("media_job_lost_database", reason=type(error).__name__)
        try_again(job, "The database did not answer.")
    except ClaimLost:
        raise
    except Exception:
        log.exception("media_job_crashed")
        try_again(job, SERVER_FAILED)


def _embed_item(job: Job, *, until: float) -> None:
    item = MediaItem.objects.filter(pk=job.media_id).first()
    if item is None:
        raise ClaimLost
    work = _prepared(job, item)
    spool = Spool(conf().work_dir, job_id=job.public_id, key=_key(work))
    write(job, chunks_total=len(work.spans), chunks_processed=len(spool))
    while (done := len(spool)) < len(work.spans):
        if time.monotonic() >= until:
            hand_back(job)
            return
        batch = work.spans[done : done + BATCH_CHUNKS]
        spool.append(_vectors(work, [work.text(span) for span in batch]))
        write(job, chunks_processed=done + len(batch))
    confirm_again(work.target)
    _store(work, spool)


def _prepared(job: Job, item: MediaItem) -> _Work:
    """Cut the text for the job's model. Raises ServiceError, ProviderError, ClaimLost."""
    target = find_target(model=job.embedding_model, provider=job.embedding_provider)
    found: list[Span] = []
    beat_at = time.monotonic() + HEARTBEAT_SECONDS
    for span in _cut(job, item, target):
        found.append(span)
        if time.monotonic() > beat_at:
            write(job)
            beat_at = time.monotonic() + HEARTBEAT_SECONDS
    return _Work(
        job=job, item=item, caller=asker(job.caller), target=target, spans=found
    )


def _cut(job: Job, item: MediaItem, target: Target) -> Iterator[Span]:
    provider = registry().get(target.provider)
    if provider is None:
        raise ProviderMisconfigured(f"The plug-in of {target.provider} is broken.")
    tokenizer, limit = provider.tokenizer(target.model), None
    size, most = job.chunk_size, target.model.max_tokens
    if most is not None and tokenizer is not None:
        # Some models put a few words of their own before each text.
        limit = TokenLimit(tokenizer=tokenizer, max_tokens=most - most // 32)
    elif most is not None:
        size = min(size, 2 * most)  # the maker keeps its vocabulary to itself
    overlap = min(job.chunk_overlap, size // 2)
    return spans(item.content, size=size, overlap=overlap, limit=limit)


def _vectors(work: _Work, texts: list[str]) -> Vectors:
    check_budgets(work.caller)
    result = embed(
        EmbeddingRequest(
            inputs=texts,
            caller=work.caller,
            model=work.target.model.name,
            provider=work.target.provider,
            dimensions=work.job.dimensions,
            fallback="same_space",
            cached=False,
            stored=True,
        )
    )
    return result.vectors


def _store(work: _Work, spool: Spool) -> None:
    """Put the vectors in place and end the job, in one transaction. A text that changed meanwhile is embedded anew."""
    item, job, count = work.item, work.job, len(work.spans)
    space = Space(
        provider=work.target.provider,
        model=work.target.model.name,
        vector_space=work.target.model.vector_space,
        dimensions=spool.dimensions or 0,
    )

    def still_right() -> bool:
        told = MediaItem.objects.filter(pk=item.pk, checksum=item.checksum).update(
            embedding_provider=space.provider,
            embedding_model=space.model,
            vector_space=space.vector_space,
            dimensions=space.dimensions,
            embedding_count=count,
            embedded_checksum=item.checksum,
            embedded_at=timezone.now(),
        )
        if not told:
            return False
        try:
            complete(job, chunks=count)
        except ClaimLost:
            return False
        return True

    try:
        vector_store().replace(item.pk, space, _chunks(work, spool), guard=still_right)
    except Superseded:
        if (
            MediaItem.objects.filter(pk=item.pk)
            .exclude(checksum=item.checksum)
            .exists()
        ):
            hand_back(job)
            return
        raise ClaimLost from None
    log.info("media_job_completed", chunks=count)


def _chunks(work: _Work, spool: Spool) -> Iterator[Chunk]:
    for index, (span, vector) in enumerate(zip(work.spans, spool.rows(), strict=True)):
        yield Chunk(
            index=index,
            text=work.text(span),
            start=span.start,
            end=span.end,
            vector=vector,
        )


def _key(work: _Work) -> str:
    # The fingerprint has the revision that the job was made for; an operator may have accepted another since.
    told = f"{work.item.checksum} {work.job.fingerprint} {work.target.model.revision}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _is_lasting(error: ServiceUnavailable | ProviderError) -> bool:
    if isinstance(error, ServiceUnavailable):
        return all(failure.reason in LASTING_REASONS for failure in error.failures)
    return isinstance(error, ProviderRejected) or error.reason in LASTING_REASONS
