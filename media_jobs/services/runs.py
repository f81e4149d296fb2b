"""One run of one job: text -> chunks -> vectors -> the store, giving way whenever the job is no longer its own."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils import timezone

from embeddings.access.caller_lookup import caller_of_id
from embeddings.conf import conf as embeddings_conf
from embeddings.services.callers import Caller
from embeddings.services.embed import embed
from embeddings.services.errors import (
    InvalidRequest,
    NotAllowed,
    ServiceError,
)
from embeddings.services.routing import (
    fallback_targets,
    find_target,
    found_again,
    named_provider,
)
from embeddings.services.space_watch import space_watch
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Target
from embeddings.services.usage.budgets import check_budgets
from embeddings.services.usage.events import Event
from embeddings.services.usage.ledger import recorded
from embeddings.services.usage.telemetry import traced
from media_jobs.chunking import Span
from media_jobs.conf import conf
from media_jobs.models import Job, MediaItem
from media_jobs.services.claims import (
    ClaimLost,
    beat,
    complete,
    fail,
    hand_back,
    put_off_like,
    try_again,
    wait,
    write,
)
from media_jobs.services.heartbeat import BEAT_SECONDS, Heartbeat
from media_jobs.services.job_failures import may_pass, outage_seconds
from media_jobs.services.spool import Spool, SpoolBroken, discard
from media_jobs.services.targets import Cutter, Identity, identity_of
from media_jobs.vector_store.base import Chunk, Space, Superseded
from media_jobs.vector_store.store import vector_store
from providers import breaker
from providers.exceptions import (
    ProviderError,
    ProviderMalformed,
    SpaceDrifted,
)
from providers.tracing import failed

BATCH_CHUNKS = 128
# What a step may take beyond its deadlines before its process counts as hung.
STEP_MARGIN_SECONDS = 60.0
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

    def texts(self, spans: Iterable[Span]) -> Iterator[str]:
        return (self.item.content[span.start : span.end] for span in spans)

    def identity(self, target: Target) -> Identity:
        return identity_of(target, dimensions=self.job.dimensions)


class _ModelChanged(Exception):
    """The model is not what it was when the run began."""


def run(job: Job, *, until: float) -> None:
    """Run a claimed job to its end, or until that moment (monotonic seconds), to go on at another time."""
    with (
        structlog.contextvars.bound_contextvars(job_id=job.public_id),
        traced("media job", {"embeddings.job_id": job.public_id}),
    ):
        try:
            _run_and_settle(job, until=until)
        except ClaimLost:
            log.info("media_job_given_up")
        if Job.objects.filter(pk=job.pk).exclude(status__in=ENDED).exists():
            return
        discard(conf().work_dir, job.public_id)


def _run_and_settle(job: Job, *, until: float) -> None:
    deadlines = embeddings_conf()
    seconds = deadlines.engine_timeout_seconds + deadlines.request_timeout_seconds
    try:
        with Heartbeat(
            lambda: beat(job), step_seconds=seconds + STEP_MARGIN_SECONDS
        ) as heart:
            _embed_item(job, heart, until=until)
    except _ModelChanged:
        log.info("media_job_model_changed")
        hand_back(job)
    except (ServiceError, ProviderError) as error:
        _settle(job, error)
    except SpoolBroken:
        log.warning("media_job_spool_broken")
        discard(conf().work_dir, job.public_id)
        try_again(job, "The vectors kept on disk were damaged.")
    except (OperationalError, InterfaceError) as error:
        log.warning("media_job_lost_database", reason=type(error).__name__)
        wait(job, "The database did not answer.", seconds=0)
    except DatabaseError:
        log.exception("media_job_refused_by_database")
        try_again(job, SERVER_FAILED)
    except ClaimLost:
        raise
    except Exception:
        log.exception("media_job_crashed")
        try_again(job, SERVER_FAILED)


def _settle(job: Job, error: ServiceError | ProviderError) -> None:
    failed(error)
    seconds = outage_seconds(error)
    if seconds is not None:
        wait(job, error.message, seconds=seconds)
        closed = breaker.retry_after(job.embedding_provider)
        if closed is not None:
            put_off_like(job, error.message, seconds=closed)
    elif may_pass(error):
        pause = getattr(error, "retry_after_seconds", None)
        try_again(job, error.message, pause_seconds=pause)
    else:
        fail(job, error.message)


def _embed_item(job: Job, heart: Heartbeat, *, until: float) -> None:
    item = MediaItem.objects.filter(pk=job.media_id).first()
    if item is None:
        raise ClaimLost
    work = _prepared(job, item, heart)
    spool = Spool(conf().work_dir, job_id=job.public_id)
    source = _source(work, spool)
    write(job, chunks_total=len(work.spans), chunks_processed=len(spool))
    while (done := len(spool)) < len(work.spans):
        if time.monotonic() >= until:
            hand_back(job)
            return
        batch = work.spans[done : done + BATCH_CHUNKS]
        heart.step()
        source = _extend(work, spool, source, [*work.texts(batch)])
        job.waited_seconds = 0
        write(job, chunks_processed=len(spool), waited_seconds=0)
    heart.step()
    _confirm(work, spool, source)
    _store(work, spool)


def _confirm(work: _Work, spool: Spool, source: Target) -> None:
    """Check that who made the rows still gives the vectors of its space. A fallback that does not loses its rows."""
    try:
        # At its provider's present address, but as the model whose rows these are.
        provider = named_provider(source.provider.name)
        space_watch().confirm(provider, source.model, again=True)
    except SpaceDrifted:
        if source.same_as(work.target):
            raise
        spool.clear()
        raise _ModelChanged from None


def _prepared(job: Job, item: MediaItem, heart: Heartbeat) -> _Work:
    """Cut the text for the job's model. Raises ServiceError, ProviderError, ClaimLost."""
    target = find_target(model=job.embedding_model, provider=job.embedding_provider)
    found: list[Span] = []
    beat_at = time.monotonic() + BEAT_SECONDS
    cutter = Cutter.of(target, size=job.chunk_size, overlap=job.chunk_overlap)
    for span in cutter.spans(item.content):
        found.append(span)
        if time.monotonic() > beat_at:
            write(job)
            beat_at = time.monotonic() + BEAT_SECONDS
    if not found:
        raise InvalidRequest(f"The text has nothing that {target.label} can read.")
    return _Work(job=job, item=item, caller=_caller_of(job), target=target, spans=found)


def _caller_of(job: Job) -> Caller:
    """Return who started the job, with the rights it has now. Raises NotAllowed where it may not call any more."""
    caller = caller_of_id(job.caller)
    if caller is None:
        raise NotAllowed("Who asked for this job may not call any more.")
    return caller


def _source(work: _Work, spool: Spool) -> Target:
    """Return who is asked: who made the rows that are there, if it makes the same still, else the job's own model."""
    spool.keep(work.texts(work.spans))
    asked = EmbeddingRequest(inputs=[], caller=work.caller, fallback="same_space")
    for target in (work.target, *fallback_targets(asked, work.target)):
        if work.identity(target) == spool.identity:
            return target
    spool.clear()
    return work.target


def _extend(work: _Work, spool: Spool, source: Target, texts: list[str]) -> Target:
    """Embed `texts` and add their rows; return who answered. Raises ProviderMalformed for vectors unlike the rows."""
    result = _answer(work, source, texts)
    identity, dimensions = work.identity(result.target), result.vectors.shape[1]
    if spool.identity is None:
        spool.begin(identity, dimensions)
    elif (spool.identity, spool.dimensions) != (identity, dimensions):
        # Who made the rows gets another chance to go on with them, but only one.
        if work.job.attempts > 1 or spool.identity == identity:
            spool.clear()
        raise ProviderMalformed(
            f"{source.label} began the job and did not go on with the same vectors."
        )
    spool.append(texts, result.vectors)
    return result.target


def _answer(work: _Work, source: Target, texts: list[str]) -> EmbeddingResult:
    """Ask `source`, else another of its space. Raises _ModelChanged, ServiceError, ProviderError."""
    check_budgets(work.caller)
    event = Event(endpoint="job", request_id=work.job.public_id, caller=work.caller)
    try:
        with recorded(event):
            result = embed(
                EmbeddingRequest(
                    inputs=texts,
                    caller=work.caller,
                    target=found_again(source),
                    dimensions=work.job.dimensions,
                    fallback="same_space",
                    cached=False,
                    stored=True,
                )
            )
    except (ServiceError, ProviderError):
        if _has_changed(work, source):
            raise _ModelChanged from None
        raise
    if _has_changed(work, result.target):
        raise _ModelChanged
    if result.target.model.vector_space != work.target.model.vector_space:
        raise ProviderMalformed(f"{result.target.label} is of another vector space.")
    return result


def _has_changed(work: _Work, source: Target) -> bool:
    """Whether the job's model, or the one that was asked, is another now than it was when this run met it."""
    for met in (work.target, source):
        now = found_again(met)
        if now.model.max_tokens != met.model.max_tokens:
            return True
        if work.identity(now) != work.identity(met):
            return True
    return False


def _store(work: _Work, spool: Spool) -> None:
    """Put the vectors in place and end the job, in one transaction. A text that changed meanwhile is embedded again."""
    item, job, count = work.item, work.job, len(work.spans)
    made_by, dimensions = spool.identity, spool.dimensions
    if made_by is None or dimensions is None:
        raise SpoolBroken
    space = Space(
        provider=made_by.provider,
        model=made_by.model,
        vector_space=made_by.vector_space,
        dimensions=dimensions,
    )

    def still_right() -> bool:
        marked = MediaItem.objects.filter(pk=item.pk, checksum=item.checksum).update(
            embedding_provider=space.provider,
            embedding_model=space.model,
            embedded_revision=made_by.revision,
            vector_space=space.vector_space,
            dimensions=space.dimensions,
            embedding_count=count,
            embedded_checksum=item.checksum,
            embedded_at=timezone.now(),
        )
        if not marked:
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
    """Yield what is stored. Raises SpoolBroken for a vector that is not its chunk's."""
    texts = work.texts(work.spans)
    vectors = spool.vectors(work.texts(work.spans))
    for index, (span, text, vector) in enumerate(
        zip(work.spans, texts, vectors, strict=True)
    ):
        yield Chunk(
            index=index, text=text, start=span.start, end=span.end, vector=vector
        )
