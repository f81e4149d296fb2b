"""The loads, each put on one contestant that has the machine to itself."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import Contestant, vectors_of
from benchmarks.corpus import short_texts
from benchmarks.figures import Figures, percentile
from benchmarks.load import Answers, Stream, send
from benchmarks.servers import Server

TEXTS_IN_REQUEST = 64
BULK_CONNECTIONS = 8
SHORT_CONNECTIONS = 32
HOT_CONNECTIONS = 8
HOT_TEXT = "The same short text, asked for again and again."
HOT_REQUESTS = 40_000
BIG_REQUESTS = 9
ALONE = 24
REST_SECONDS = (
    3.0  # memory is looked at when whoever gives some back has had the time to
)
# More than any server answers in the time.
SHORT_TEXTS = 12_000


class NoAnswers(Exception):
    """A contestant does not answer a load at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured. `mix_seconds` bounds what a peer's 2048-text request may take; ours runs to its end.

    Bulk is what machines are least steady at: a round has `laps` of it, in which everybody embeds the corpus once.
    """

    rounds: int
    laps: int
    bulk_texts: int
    seconds: float
    mix_seconds: float
    cold_starts: int


QUICK = Scale(
    rounds=1,
    laps=1,
    bulk_texts=512,
    seconds=2.5,
    mix_seconds=6.0,
    cold_starts=1,
)
FULL = Scale(
    rounds=3,
    laps=2,
    bulk_texts=2048,
    seconds=5.0,
    mix_seconds=15.0,
    cold_starts=3,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The bulk texts and how many tokens each has."""

    texts: list[str]
    tokens: list[int]

    def requests(self, count: int) -> list[list[str]]:
        """Return the first `count` texts in requests of 64."""
        return [
            self.texts[start : start + TEXTS_IN_REQUEST]
            for start in range(0, count, TEXTS_IN_REQUEST)
        ]

    def tokens_of(self, requests: Sequence[int]) -> int:
        """Return the tokens in the requests of these numbers."""
        return sum(
            sum(
                self.tokens[number * TEXTS_IN_REQUEST : (number + 1) * TEXTS_IN_REQUEST]
            )
            for number in requests
        )


@dataclass(slots=True, kw_only=True)
class Bench:
    """One contestant's server, and where its figures go."""

    contestant: Contestant
    server: Server
    figures: Figures
    corpus: Corpus
    scale: Scale

    def warm_up(self) -> None:
        """Let it load and compile what it does on first use, for one text and for many."""
        texts = self.corpus.texts[:TEXTS_IN_REQUEST]
        if self.contestant.kind != "floor":
            self._send(
                Stream(bodies=[self.contestant.body(texts)] * 4, connections=2),
                Stream(bodies=[self.contestant.body(HOT_TEXT)] * 10),
            )

    def one_at_a_time(self, number: int) -> None:
        """Short texts, one after another, nothing else going on."""
        (answers,) = self._send(
            Stream(bodies=self._short(number, 0), seconds=self.scale.seconds)
        )
        self._add(
            single_p50_ms=statistics.median(answers.seconds) * 1000,
            single_p99_ms=percentile(answers.seconds, 0.99) * 1000,
        )

    def many_clients(self, number: int) -> None:
        """32 connections of short distinct texts."""
        (answers,) = self._send(
            Stream(
                bodies=self._short(number, 1),
                connections=SHORT_CONNECTIONS,
                seconds=self.scale.seconds,
            )
        )
        self._add(short_requests_per_second=len(answers.seconds) / answers.elapsed)

    def bulk(self, *, keep: bool) -> NDArray[np.float32] | None:
        """The corpus in requests of 64 over 8 connections; return its vectors if they are to be kept."""
        self.contestant.forget(self.server.port)
        requests = self.corpus.requests(self.scale.bulk_texts)
        bodies = [self.contestant.body(texts) for texts in requests]
        tree = self.server.tree
        before, engine_before = tree.cpu_seconds(), tree.engine_cpu_seconds()
        (answers,) = self._send(
            Stream(bodies=bodies, connections=BULK_CONNECTIONS, keep=keep)
        )
        spent = tree.cpu_seconds() - before
        computed = tree.engine_cpu_seconds() - engine_before
        if computed:
            self._add(http_share=1 - computed / spent)
        time.sleep(REST_SECONDS)
        tokens = self.corpus.tokens_of(answers.numbers)
        self._add(
            bulk_tokens_per_second=tokens / answers.elapsed,
            memory_mb=tree.proportional_bytes() / 1e6,
            resident_mb=tree.resident_bytes() / 1e6,
        )
        if not keep or answers.errors:
            return None
        return np.concatenate(
            [vectors_of(body) for _, body in sorted(answers.kept.items())]
        )

    def alone(self) -> NDArray[np.float32]:
        """The corpus's first texts, each in a request of its own."""
        self.contestant.forget(self.server.port)
        bodies = [self.contestant.body([text]) for text in self.corpus.texts[:ALONE]]
        (answers,) = self._send(Stream(bodies=bodies, keep=True))
        return np.concatenate(
            [vectors_of(body) for _, body in sorted(answers.kept.items())]
        )

    def mix(self, number: int) -> None:
        """Short texts, one after another, while one request of 2048 texts is served."""
        self.contestant.forget(self.server.port)
        seconds = None if self.contestant.ours else self.scale.mix_seconds
        big = Stream(
            bodies=[self.contestant.body(self.corpus.texts)],
            seconds=seconds,
            abandon=True,
        )
        single = Stream(bodies=self._short(number, 2), follows=True)
        answers = self._send(big, single)[1]
        # One that still waits when the load ends has waited at least that long.
        waited = [*answers.seconds, *answers.waiting]
        self._add(
            mix_p50_ms=statistics.median(waited) * 1000,
            mix_p99_ms=percentile(waited, 0.99) * 1000,
            mix_answered=len(answers.seconds),
        )

    def big_cached(self) -> None:
        """One request of 2048 texts whose vectors are all cached."""
        body = self.contestant.body(self.corpus.texts)
        (answers,) = self._send(Stream(bodies=[body] * (1 + BIG_REQUESTS)))
        self._add(big_cached_ms=statistics.median(answers.seconds[1:]) * 1000)

    def hot(self) -> None:
        """One short text again and again over 8 connections."""
        (answers,) = self._send(
            Stream(
                bodies=[self.contestant.body(HOT_TEXT)] * HOT_REQUESTS,
                connections=HOT_CONNECTIONS,
                seconds=self.scale.seconds,
            )
        )
        self._add(hot_requests_per_second=len(answers.seconds) / answers.elapsed)

    def _short(self, number: int, part: int) -> list[bytes]:
        """Return bodies of short texts that no other round and no other load has."""
        start = (3 * number + part) * SHORT_TEXTS
        return [
            self.contestant.body(text) for text in short_texts(SHORT_TEXTS, start=start)
        ]

    def _send(self, *streams: Stream) -> list[Answers]:
        """Send once the last load is done with. Raises NoAnswers if a stream that was waited for had none."""
        self.server.tree.wait_until_idle()
        everything = send(
            self.server.port, self.contestant.path, self.contestant.headers, streams
        )
        for answers in everything:
            self._add(errors=answers.errors)
            if answers.errors:
                print(f"{answers.errors} errors, the first: {answers.first_error}")
            if not answers.seconds and not answers.waiting:
                raise NoAnswers(f"{self.contestant.title}: {answers.first_error}")
        return everything

    def _add(self, **figures: float) -> None:
        self.figures.add(self.contestant.name, **figures)
