"""The loads, each put on one contestant that has the machine to itself."""

import itertools
import json
import statistics
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import Contestant, vectors_of
from benchmarks.corpus import short_texts
from benchmarks.figures import Figures, percentile
from benchmarks.load import Answers, Stream, send
from benchmarks.preparation import cores
from benchmarks.servers import Server

BULK_CONNECTIONS = 8
SHORT_CONNECTIONS = 32
HOT_TEXT = "The same short text, asked for again and again."
ALONE = 24
REST_SECONDS = (
    3.0  # memory is looked at when whoever gives some back has had the time to
)
# More than any server answers in a second.
TEXTS_A_SECOND = 4000
# Of a job's document: more than is embedded in the time of a load.
CHARACTERS_A_CORE = 750_000
MOST_CHARACTERS = 20_000_000

MEDIA = "/api/v1/media"
JOB_STARTS_SECONDS = 30.0

_next_short = itertools.count()


class NoAnswers(Exception):
    """A contestant does not answer a load at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured: laps of everything, seconds of each load, texts of bulk and of the further tables."""

    laps: int
    seconds: float
    bulk_texts: int
    long_texts: int
    cold_starts: int


QUICK = Scale(laps=1, seconds=1.0, bulk_texts=192, long_texts=16, cold_starts=1)
FULL = Scale(laps=5, seconds=2.0, bulk_texts=512, long_texts=24, cold_starts=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Bulk texts, in requests of one size, and how many tokens each request has."""

    requests: list[list[str]]
    tokens: list[int]

    def tokens_of(self, numbers: Sequence[int]) -> int:
        """Return the tokens in the requests of these numbers."""
        return sum(self.tokens[number] for number in numbers)


@dataclass(slots=True, kw_only=True)
class Bench:
    """One contestant's server, and where its figures go. `cores`: those the load comes from, all if None."""

    contestant: Contestant
    server: Server
    figures: Figures
    scale: Scale
    cores: Collection[int] | None = None

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let the server run, which is held still outside."""
        self.server.tree.resume()
        try:
            yield
        except NoAnswers as failure:  # the others are still measured
            print(f"given up: {failure}", flush=True)
        finally:
            self.server.tree.pause()

    def warm_up(self, corpus: Corpus) -> None:
        """Let it load and compile what it does on first use, for one text and for many."""
        self._send(
            Stream(bodies=[self.contestant.body(corpus.requests[0])] * 2),
            Stream(bodies=[self.contestant.body(HOT_TEXT)] * 10),
        )

    def single(self) -> float:
        """Short texts, one after another, nothing else going on; return the p50 in ms."""
        (answers,) = self._send(
            Stream(bodies=self._short(), seconds=self.scale.seconds)
        )
        p50 = statistics.median(answers.seconds) * 1000
        self.add(
            single_p50_ms=p50,
            single_p99_ms=percentile(answers.seconds, 0.99) * 1000,
        )
        return p50

    def many_clients(self) -> Answers:
        """32 connections of short texts that are all new."""
        (answers,) = self._send(
            Stream(
                bodies=self._short(),
                connections=SHORT_CONNECTIONS,
                seconds=self.scale.seconds,
            )
        )
        self.add(short_per_second=len(answers.seconds) / answers.elapsed)
        return answers

    def cached(self) -> Answers:
        """32 connections of one short text."""
        count = int(self.scale.seconds * TEXTS_A_SECOND * 4)
        (answers,) = self._send(
            Stream(
                bodies=[self.contestant.body(HOT_TEXT)] * count,
                connections=SHORT_CONNECTIONS,
                seconds=self.scale.seconds,
            )
        )
        self.add(cached_per_second=len(answers.seconds) / answers.elapsed)
        return answers

    def bulk(
        self, corpus: Corpus, figure: str, *, keep: bool = False
    ) -> NDArray[np.float32] | None:
        """The corpus over 8 connections, as tokens/s; return its vectors if they are to be kept."""
        self.contestant.forget(self.server.port)
        bodies = [self.contestant.body(texts) for texts in corpus.requests]
        (answers,) = self._send(
            Stream(bodies=bodies, connections=BULK_CONNECTIONS, keep=keep)
        )
        speed = corpus.tokens_of(answers.numbers) / answers.elapsed
        self.figures.add(self.contestant.name, **{figure: speed})
        if not keep or answers.errors:
            return None
        return np.concatenate(
            [vectors_of(body) for _, body in sorted(answers.kept.items())]
        )

    def alone(self, corpus: Corpus) -> NDArray[np.float32]:
        """The corpus's first texts, each in a request of its own."""
        self.contestant.forget(self.server.port)
        texts = [text for request in corpus.requests for text in request][:ALONE]
        bodies = [self.contestant.body([text]) for text in texts]
        (answers,) = self._send(Stream(bodies=bodies, keep=True))
        return np.concatenate(
            [vectors_of(body) for _, body in sorted(answers.kept.items())]
        )

    def memory(self) -> None:
        """What all its processes take together once bulk is over, shared pages counted once."""
        time.sleep(REST_SECONDS)
        self.add(memory_mb=self.server.tree.proportional_bytes() / 1e6)

    def during_bulk_and_job(self, corpus: Corpus) -> None:
        """Short texts, one after another, while bulk is served and a document is embedded by a job."""
        contestant, port = self.contestant, self.server.port
        contestant.forget(port)
        text = "\n\n".join(text for texts in corpus.requests for text in texts)
        size = min(CHARACTERS_A_CORE * cores(), MOST_CHARACTERS)
        content = f"{next(_next_short)} {text * (1 + size // len(text))}"
        with _job(self, content[:size]) as job:
            fresh = [
                contestant.body([f"{next(_next_short)} {text}" for text in texts])
                for _ in range(20)
                for texts in corpus.requests
            ]
            bulk = Stream(
                bodies=fresh,
                connections=BULK_CONNECTIONS,
                seconds=2 * self.scale.seconds,
                abandon=True,
            )
            single = Stream(bodies=self._short(), seconds=2 * self.scale.seconds)
            answers = self._send(bulk, single, idle=False)[1]
            if not self._is_processed(job):
                print("the job ended before the load did", flush=True)
        # One that still waits when the load ends has waited at least that long.
        waited = [*answers.seconds, *answers.waiting]
        self.add(busy_p99_ms=percentile(waited, 0.99) * 1000)

    def wait_for(self, job: str) -> bool:
        """Wait until a job is worked at; return whether it is."""
        deadline = time.monotonic() + JOB_STARTS_SECONDS
        while time.monotonic() < deadline:
            if self._is_processed(job):
                return True
            time.sleep(0.2)
        return False

    def add(self, **figures: float) -> None:
        """Note figures of this contestant."""
        self.figures.add(self.contestant.name, **figures)

    def _is_processed(self, job: str) -> bool:
        path = f"{MEDIA}/embeddings/jobs/{job}"
        answer = self.contestant.call(self.server.port, "GET", path) or {}
        return bool(answer.get("status") == "processing")

    def _short(self) -> list[bytes]:
        """Return bodies of short texts that no other load has."""
        texts = fresh_texts(int(self.scale.seconds * TEXTS_A_SECOND))
        return [self.contestant.body(text) for text in texts]

    def _send(self, *streams: Stream, idle: bool = True) -> list[Answers]:
        """Send once the last load is done with. Raises NoAnswers if a stream that was waited for had none."""
        if idle:
            self.server.tree.wait_until_idle()
        contestant = self.contestant
        everything = send(
            self.server.port,
            contestant.path,
            contestant.headers,
            streams,
            cores=self.cores,
        )
        for answers in everything:
            self.add(errors=answers.errors)
            if answers.errors:
                print(f"{answers.errors} errors, the first: {answers.first_error}")
            if not answers.seconds and not answers.waiting:
                raise NoAnswers(f"{contestant.title}: {answers.first_error}")
        return everything


def fresh_texts(count: int) -> list[str]:
    """Return short texts that this run has not had yet."""
    return short_texts(count, start=next(_next_short) * 100_000)


@contextmanager
def _job(bench: Bench, content: str) -> Iterator[str]:
    """Have a document embedded by a job, which is given up at the end. Raises NoAnswers if it does not run."""
    contestant, port = bench.contestant, bench.server.port
    document = _json(title="of the benchmark", content=content)
    item = contestant.call(port, "POST", MEDIA, document)
    if item is None:
        raise NoAnswers(f"{contestant.title}: no document was stored")
    place = f"{MEDIA}/{item['media_id']}"
    wanted = _json(embedding_model=contestant.model)
    job = contestant.call(port, "POST", f"{place}/embeddings", wanted)
    try:
        if job is None or not bench.wait_for(job["job_id"]):
            raise NoAnswers(f"{contestant.title}: the job does not run")
        yield job["job_id"]
    finally:
        contestant.call(port, "DELETE", place)


def _json(**values: object) -> bytes:
    return json.dumps(values).encode()
