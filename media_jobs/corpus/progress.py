"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterable
from typing import Self

from tqdm import tqdm

from media_jobs.corpus.shards import Done

LINE_SECONDS = 10.0


class Meter:
    """Documents done of `total`, with those of `before` counted as done already. `write` takes a line."""

    clock = staticmethod(time.monotonic)

    def __init__(
        self, total: int, *, before: int, write: Callable[[str], object]
    ) -> None:
        self._bar = tqdm(total=total, initial=before, unit="document", disable=None)
        self._write = write
        self._total, self._before = total, before
        self.documents = self.chunks = self.tokens = 0
        self._began = self._said_at = self.clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def follow(self, done: Iterable[Done]) -> None:
        """Show all of `done` as it comes."""
        for one in done:
            self.add(one)

    def add(self, done: Done) -> None:
        self.documents += done.documents
        self.chunks += done.chunks
        self.tokens += done.tokens
        self._bar.set_postfix_str(
            f"{self._rate(self.tokens):,.0f} tokens/s", refresh=False
        )
        self._bar.update(done.documents)
        if self._bar.disable and self.clock() - self._said_at >= LINE_SECONDS:
            self._said_at = self.clock()
            self._write(self._line())

    @property
    def seconds(self) -> float:
        return self.clock() - self._began

    def summary(self) -> str:
        """Say what this run did, and how fast."""
        return (
            f"{self.documents:,} documents in {self.chunks:,} chunks, {self.tokens:,} tokens, in {_span(self.seconds)}:"
            f" {self._rate(self.documents):,.1f} documents/s, {self._rate(self.tokens):,.0f} tokens/s."
        )

    def _line(self) -> str:
        done, rate = self._before + self.documents, self._rate(self.documents)
        left = _span((self._total - done) / rate) if rate else "unknown"
        return (
            f"{done:,} of {self._total:,} documents, {rate:,.1f}/s,"
            f" {self._rate(self.tokens):,.0f} tokens/s, {left} left"
        )

    def _rate(self, count: int) -> float:
        return count / max(self.seconds, 1e-9)


def _span(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s"
