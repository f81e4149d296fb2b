"""`RemoteProvider`: the whole of a remote provider except its models, its limits and
its wire format.
"""

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import count
from typing import Any, ClassVar, Self

import httpx2
import numpy as np
import orjson
import structlog

from providers import tracing
from providers.addresses import key_variable
from providers.base import (
    Embedded,
    InputType,
    ModelSpec,
    Provider,
    Vectors,
    probing,
    replaceable,
)
from providers.exceptions import (
    ProviderError,
    ProviderMalformed,
    ProviderMisconfigured,
    ProviderRejected,
    TooManyTexts,
)
from providers.metrics import timed
from providers.remote.answers import (
    Answer,
    BadAnswerError,
    Json,
    checked_vectors,
    max_answer_bytes,
)
from providers.remote.client import HttpClient, Reply
from providers.remote.deadline import Clocks, Deadline
from providers.remote.failures import (
    classify_status,
    describe,
    is_too_many,
    public_message,
    retry_after_seconds,
)
from providers.remote.splitting import Limits, estimated_tokens, run_all, split
from providers.tracing import called, step

RETRIES = 2
FIRST_PAUSE_SECONDS = 0.25
MAX_LEARNT_SIZES = 1000

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one HTTP request asks for; `dimensions` is None for the model's own size."""

    model: ModelSpec
    texts: Sequence[str]
    dimensions: int | None
    input_type: InputType


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One POST: the path below the base URL, and the JSON body."""

    path: str
    body: Mapping[str, Json] = field(repr=False)


class RemoteProvider(Provider):
    """Base of all providers behind HTTP. A plug-in sets the class attributes and writes
    `build` and `read`.
    """

    takes_prompts: ClassVar[bool] = True
    key_variable: str
    # Where the key stands if not there, and further options with what each may be, the default first: the option of
    # LOCAL_API_KIND is `kind`. Of built-ins, as literals.
    other_key_variables: ClassVar[tuple[str, ...]] = ()
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    url_variable: str
    key_required: ClassVar[bool] = True
    default_base_url: ClassVar[str | None] = None
    listed: ClassVar[tuple[ModelSpec, ...]] = ()
    limits: ClassVar[Limits]
    # The most texts in one call that operators may set; of built-ins, as a literal. 0: as many as `limits` says.
    largest_batch: ClassVar[int] = 0
    # Sub-requests of one split request in flight at once.
    parallel_requests: ClassVar[int] = 4

    def __init__(
        self, options: Mapping[str, Any], *, clocks: Clocks | None = None
    ) -> None:
        self.clocks = clocks or Clocks()
        self._key_hint = ""
        if (name := options.get("name", self.name)) != self.name:
            self.name = name
            self.key_variable = key_variable(name)
            self.url_variable = f"The address of {name}"
            self._key_hint = "; keys are read when the server starts"
        self.api_key: str = (options.get("api_key") or "").strip()
        self.base_url: str = (
            (options.get("base_url") or self.default_base_url or "").strip().rstrip("/")
        )
        self.timeout_seconds = float(options.get("timeout_seconds") or math.inf)
        self.retries = int(options.get("retries", RETRIES))
        self._batch_size = int(options.get("batch_size") or 0)
        # By model, of those that refused more.
        self._learnt_sizes: dict[str, int] = {}
        self._proxy_url: str | None = options.get("proxy_url") or None
        self._http = HttpClient(self.name, proxy_url=self._proxy_url)

    @abstractmethod
    def build(self, batch: Batch) -> Call:
        """Return the request that embeds `batch`, which is within
        `limits_for(batch.model)`.
        """

    @abstractmethod
    def read(self, reply: Reply) -> Answer:
        """Return what a 200 answer holds, unchecked. Raises BadAnswerError."""

    @classmethod
    def from_settings(cls, options: Mapping[str, Any]) -> Self:
        """Build from `name`, `api_key`, `base_url`, `timeout_seconds`, `batch_size`, `proxy_url`,
        `retries`; all may be absent.
        """
        return cls(options)

    def address(self) -> str:
        return self.base_url

    def models(self) -> Iterable[ModelSpec]:
        return self.listed

    def limits_for(self, model: ModelSpec) -> Limits:
        """Return what one request for `model` may hold."""
        return self.limits

    def headers(self) -> Mapping[str, str]:
        """Return the headers that carry the key; nothing else may."""
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def classify(self, reply: Reply) -> type[ProviderError]:
        """Return the exception for an answer that is not 200."""
        return classify_status(reply.status)

    def retry_delay_seconds(self, reply: Reply) -> float | None:
        """Return the wait that the upstream asks for, if any."""
        return retry_after_seconds(reply.headers, now=self.clocks.wall_clock())

    def close(self) -> None:
        """Close the connections of this process."""
        self._http.close()

    def embed(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        *,
        dimensions: int | None,
        input_type: InputType,
        timeout_seconds: float,
    ) -> Embedded:
        """See `Provider.embed`. The deadline spans all sub-requests, their retries and
        the pauses between.
        """
        if problem := self.configuration_problem():
            raise ProviderMisconfigured(problem)
        if not texts:
            return Embedded(
                vectors=np.empty((0, dimensions or model.dimensions or 0), np.float32),
                prompt_tokens=0,
            )
        seconds = min(timeout_seconds, self.timeout_seconds)
        ends_at = self.clocks.clock() + seconds
        whole = Batch(
            model=model,
            texts=model.prompted(texts, input_type),
            dimensions=dimensions,
            input_type=input_type,
        )
        with timed(self.name, "upstream"):
            while True:
                deadline = Deadline(ends_at, self.clocks.clock)
                with contextlib.suppress(TooManyTexts):
                    return self._joined(self._answers(whole, deadline))

    @classmethod
    def most_in_a_batch(cls) -> int:
        """Return how many texts in one call operators may set at most."""
        return cls.largest_batch or cls.limits.max_items

    def _answers(self, whole: Batch, deadline: Deadline) -> list[Embedded]:
        """Ask for `whole` in parts, within the limits as they are known. Raises TooManyTexts once they are lower."""
        model, texts = whole.model, whole.texts
        limits = self.limits_for(model)
        size = min(self._batch_size or limits.max_items, self.most_in_a_batch())
        size = min(size, self._learnt_sizes.get(model.name, size))
        parts = split(
            texts,
            replace(limits, max_items=size),
            partial(self._count_tokens, model, texts),
        )
        retries, parallel = self.retries, self.parallel_requests
        if probing.get():
            retries, parallel = 0, 1
        elif replaceable.get():
            retries = 0
        tasks = [
            partial(self._embed_batch, replace(whole, texts=part), deadline, retries)
            for part in parts
        ]
        return run_all(tasks, parallel=parallel, on_failure=deadline.cancel)

    def configuration_problem(self) -> str | None:
        if self.key_required and not self.api_key:
            return f"{self.key_variable} is not set{self._key_hint}"
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            return f"{self.key_variable} holds characters that no HTTP header can carry"
        if not self.base_url:
            return f"{self.url_variable} is not set"
        if not _is_http_url(self.base_url):
            return f"{self.url_variable} is not a valid http or https URL"
        if self._proxy_url is not None and not _is_http_url(self._proxy_url):
            return f"The proxy for {self.name} is not a valid http or https URL"
        return None

    def _count_tokens(self, model: ModelSpec, texts: Sequence[str]) -> Sequence[int]:
        try:
            tokenizer = self.tokenizer(model)
        except ProviderError:  # its vocabulary is not at hand; a guess splits as well
            tokenizer = None
        if tokenizer is not None:
            return tokenizer.count(texts)
        return [estimated_tokens(text, model.max_tokens) for text in texts]

    def _embed_batch(self, batch: Batch, deadline: Deadline, retries: int) -> Embedded:
        for attempt in count():
            try:
                with step("POST", "client") as sent:
                    if sent:
                        sent.attributes |= called(self.base_url, resent=attempt)
                    return self._attempt(batch, deadline)
            except ProviderError as error:
                pause = (
                    self._pause_seconds(error, attempt) if attempt < retries else None
                )
                if pause is None or pause >= deadline.remaining_seconds():
                    raise
                logger.info(
                    "upstream_retry",
                    provider=self.name,
                    reason=error.reason,
                    pause_seconds=round(pause, 3),
                )
            self.clocks.sleep(pause)
        raise AssertionError("unreachable: count() does not end")

    def _pause_seconds(self, error: ProviderError, attempt: int) -> float | None:
        """Return the wait before the next try, None if there is none.

        Jittered and doubling, or as long as the upstream asks and a jitter more.
        """
        if not error.retryable:
            return None
        jitter = 0.5 + self.clocks.random() / 2
        own: float = FIRST_PAUSE_SECONDS * 2.0**attempt * jitter
        asked = error.retry_after_seconds
        return own if asked is None else asked + own / 2

    def _attempt(self, batch: Batch, deadline: Deadline) -> Embedded:
        call = self.build(batch)
        size = batch.dimensions or batch.model.dimensions
        reply = self._http.post(
            self.base_url + call.path,
            headers={
                "content-type": "application/json",
                **tracing.headers(),
                **self.headers(),
            },
            content=orjson.dumps(call.body),
            deadline=deadline,
            max_bytes=max_answer_bytes(len(batch.texts), size),
        )
        tracing.note({"http.response.status_code": reply.status})
        if reply.status != 200:
            raise self._failure(reply, batch)
        if reply.payload is None:
            raise ProviderMalformed(
                f"{self.name} answered with something that is not JSON."
            )
        try:
            answer = self.read(reply)
            vectors = checked_vectors(
                answer.rows, count=len(batch.texts), dimensions=size
            )
        except BadAnswerError as error:
            raise ProviderMalformed(f"{self.name} {error}.") from error
        return Embedded(vectors=vectors, prompt_tokens=answer.prompt_tokens)

    def _failure(self, reply: Reply, batch: Batch) -> ProviderError:
        kind = self.classify(reply)
        if issubclass(kind, ProviderRejected):
            message = public_message(
                reply.payload, secrets=self._secrets(), texts=batch.texts
            )
            if len(batch.texts) > 1 and is_too_many(reply.status, reply.payload):
                self._learn_size(batch)
                kind = TooManyTexts
            return kind(
                f"{self.name}: {message}"
                if message
                else f"{self.name} rejected the request (HTTP {reply.status}).",
                status=reply.status,
                param="model" if reply.status == 404 else None,
            )
        return kind(
            describe(kind, self.name, reply.status),
            retry_after_seconds=self.retry_delay_seconds(reply),
        )

    def _learn_size(self, batch: Batch) -> None:
        """Ask for half as many from now on."""
        if len(self._learnt_sizes) >= MAX_LEARNT_SIZES:
            self._learnt_sizes.clear()
        size, name = len(batch.texts) // 2, batch.model.name
        self._learnt_sizes[name] = min(size, self._learnt_sizes.get(name, size))
        logger.warning("upstream_takes_fewer_texts", provider=self.name, at_most=size)

    def _secrets(self) -> list[str]:
        address = httpx2.URL(self.base_url).netloc.decode()
        candidates = (self.api_key, self.base_url, address)
        return [secret for secret in candidates if len(secret) > 3]

    def _joined(self, parts: Sequence[Embedded]) -> Embedded:
        sizes = {part.vectors.shape[1] for part in parts}
        if len(sizes) > 1:
            raise ProviderMalformed(
                f"{self.name} answered one request with vectors of different sizes."
            )
        vectors: Vectors = (
            np.concatenate([part.vectors for part in parts])
            if len(parts) > 1
            else parts[0].vectors
        )
        counts = [part.prompt_tokens for part in parts]
        known = [tokens for tokens in counts if tokens is not None]
        return Embedded(
            vectors=vectors,
            prompt_tokens=sum(known) if len(known) == len(counts) else None,
        )


@lru_cache(maxsize=64)
def _is_http_url(address: str) -> bool:
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL:
        return False
    port_is_sane = url.port is None or 0 < url.port < 65536
    return url.scheme in ("http", "https") and bool(url.host) and port_is_sane
