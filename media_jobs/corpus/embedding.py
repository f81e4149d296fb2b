"""Texts to vectors by one model, through the same services as media jobs; patient where its provider is away."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import structlog
from django.db import connections

from embeddings.services.callers import SYSTEM
from embeddings.services.embed import embed
from embeddings.services.errors import ServiceError
from embeddings.services.routing import found_again
from embeddings.services.space_watch import space_watch
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Target
from embeddings.services.usage.events import Event
from embeddings.services.usage.ledger import recorded
from media_jobs.conf import conf
from media_jobs.corpus.errors import CorpusError
from media_jobs.corpus.manifest import Check
from media_jobs.services.claims import MAX_ATTEMPTS, MAX_WAIT, MIN_WAIT, PAUSES
from media_jobs.services.job_failures import may_pass, outage_seconds
from media_jobs.services.targets import Identity, identity_of, pinned_target
from providers.base import Vectors
from providers.canary import TEXTS
from providers.exceptions import ProviderError

log = structlog.get_logger(__name__)


class Embedder:
    """One model, as it was when this was made. `requests`: how many batches are under way at once."""

    sleep = staticmethod(time.sleep)

    def __init__(
        self, target: Target, *, dimensions: int | None, requests: int
    ) -> None:
        self.target = target
        self.identity: Identity = identity_of(target, dimensions=dimensions)
        self._dimensions = dimensions
        self._requests = requests

    @classmethod
    def of(cls, model: str | None, *, dimensions: int | None, requests: int) -> Self:
        """Raises ServiceError where no such model is set up."""
        target = pinned_target(SYSTEM, model=model)
        return cls(target, dimensions=dimensions, requests=requests)

    def check(self) -> Check:
        """Embed the check texts."""
        return Check(vectors=self._patient([*TEXTS]).vectors)

    def confirm(self) -> None:
        """See that a remote model still gives the vectors of its space. Raises ProviderError."""
        now = found_again(self.target)
        space_watch().confirm(now.provider, now.model, again=True)

    def embed_all(self, batches: Iterable[list[str]]) -> Iterator[tuple[Vectors, int]]:
        """Yield the vectors of each batch, float32 (n, d), and its tokens, in order.

        Raises CorpusError where the model is another by now, ServiceError, ProviderError.
        """
        if self._requests == 1:
            for batch in batches:
                yield _read(self._patient(batch))
            return
        under_way: deque[Future[EmbeddingResult]] = deque()
        pool = ThreadPoolExecutor(self._requests, thread_name_prefix="corpus")
        try:
            for batch in batches:
                under_way.append(pool.submit(self._aside, batch))
                if len(under_way) > self._requests:
                    yield _read(under_way.popleft().result())
            while under_way:
                yield _read(under_way.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)

    def _aside(self, texts: list[str]) -> EmbeddingResult:
        """Ask in a thread of the pool, which leaves no connection behind."""
        try:
            return self._patient(texts)
        finally:
            connections.close_all()

    def _patient(self, texts: list[str]) -> EmbeddingResult:
        """Ask, and again while the failure may pass: as long and as often as a media job would."""
        attempts, waited = 1, 0.0
        while True:
            try:
                return self._answer(texts)
            except (ServiceError, ProviderError) as error:
                away = outage_seconds(error)
                if away is not None:
                    if waited >= conf().wait_days * 86400:
                        raise
                    pause = max(MIN_WAIT, away)
                elif may_pass(error) and attempts < MAX_ATTEMPTS:
                    named = getattr(error, "retry_after_seconds", None) or 0
                    pause = max(PAUSES[attempts - 1], named)
                    attempts += 1
                else:
                    raise
                pause = min(pause, MAX_WAIT)
                log.warning("corpus_waits", reason=error.message, seconds=round(pause))
                self.sleep(pause)
                waited += pause

    def _answer(self, texts: list[str]) -> EmbeddingResult:
        with recorded(Event(endpoint="embed_corpus", caller=SYSTEM)):
            result = embed(
                EmbeddingRequest(
                    inputs=texts,
                    target=found_again(self.target),
                    dimensions=self._dimensions,
                    fallback="off",
                    cached=False,
                    stored=True,
                )
            )
        now = identity_of(result.target, dimensions=self._dimensions)
        if now != self.identity:
            raise CorpusError(
                f"{self.target.label} became another model while it embedded: its revision was"
                f" {self.identity.revision!r} and is {now.revision!r}. Bring the former one"
                " back, or take another OUTPUT."
            )
        return result


def _read(result: EmbeddingResult) -> tuple[Vectors, int]:
    return result.vectors, result.prompt_tokens
