"""Texts that wait for the engine, and which of them run next. No threads here: the owner holds its lock.

Batches are cut by padded tokens and hold texts of like length, of one request or of several: where another run costs
less than the padding, the shorter texts are left to it.

Requests share the engine by weighted fair queueing (Demers, Keshav, Shenker 1989): each carries a virtual time that
grows by the work done for it, the lowest goes next, and a new one starts at the queue's own virtual time. So
many short requests cannot starve a long one, nor it them.
"""

import heapq
import itertools
import math
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from providers.base import Vectors
from providers.engine.runtime import Row
from providers.exceptions import ProviderError


@dataclass(slots=True, eq=False)
class Request:
    """One caller's texts on their way. `waiting` holds (length, index), shortest first; `tokens` is their sum."""

    rows: Sequence[Row]
    enqueued_at: float
    deadline: float
    waiting: list[tuple[int, int]] = field(init=False)
    tokens: int = field(init=False)
    vectors: list[Vectors | None] = field(init=False)
    unfinished: int = field(init=False)
    virtual_time: float = 0.0
    small: bool = False
    started_at: float | None = None
    at_once: "Batch | None" = None  # of a request that its own thread runs
    error: ProviderError | None = None
    cause: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.waiting = sorted((len(row), index) for index, row in enumerate(self.rows))
        self.tokens = sum(length for length, _ in self.waiting)
        self.vectors = [None] * len(self.rows)
        self.unfinished = len(self.rows)

    def fail(self, error: ProviderError, cause: BaseException | None = None) -> None:
        """End the caller's wait with an error, unless it has ended."""
        if not self.done.is_set():
            self.error, self.cause = error, cause
            self.done.set()


Batch = list[tuple[Request, int]]


class RunCost:
    """What a run costs before its first token, counted in tokens: with MiniLM 4 in int8 and 16 in fp32.

    Least squares of processor time over padded tokens, the last hundred runs or so.
    """

    FIRST_GUESS, LEAST, MOST = 8.0, 2.0, 64.0
    KEEP = 0.99

    def __init__(self) -> None:
        self.tokens = self.FIRST_GUESS
        self._sums = [0.0] * 5  # of 1, x, y, x * x and x * y

    def note(self, tokens: int, seconds: float) -> None:
        """Learn from a run of so many padded tokens on one core."""
        new = (1.0, tokens, seconds, tokens * tokens, tokens * seconds)
        self._sums = [
            self.KEEP * old + one for old, one in zip(self._sums, new, strict=True)
        ]
        runs, x, y, xx, xy = self._sums
        spread, slope = runs * xx - x * x, runs * xy - x * y
        if spread > runs * runs and slope > 0:
            per_token = slope / spread
            fixed = (y - per_token * x) / runs
            self.tokens = min(max(fixed / per_token, self.LEAST), self.MOST)


class Queue:
    """Requests with texts that no run has taken. A request of up to `small_tokens` is small, the others are bulk.

    `square_tokens`: the length of a text of which attention, which grows with the square, is half of the work.
    `note`: called with the tokens that wait, whenever that changes.
    """

    def __init__(
        self,
        *,
        small_tokens: int,
        square_tokens: float = math.inf,
        note: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        self.tokens = 0
        self._note = note
        self.run_cost = RunCost()
        self._small_tokens = small_tokens
        self._square_tokens = square_tokens
        self._requests: list[Request] = []
        self._virtual_time = 0.0

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request) -> None:
        """Put a request in, and mark it as small if it is."""
        request.virtual_time = self._virtual_time
        request.small = request.tokens <= self._small_tokens
        self.tokens += request.tokens
        self._requests.append(request)
        self._note(self.tokens)

    def remove(self, request: Request) -> None:
        """Take out what still waits of a request, if anything."""
        if request in self._requests:
            self._requests.remove(request)
            self.tokens -= request.tokens
            request.waiting.clear()
            self._note(self.tokens)

    def requests(self) -> list[Request]:
        """Return all that wait."""
        return list(self._requests)

    def next_batch(self, budget_tokens: int, *, small: bool, bulk: bool) -> Batch:
        """Cut a batch out of small requests, bulk ones or both: the longest text of the one whose turn it is, filled up
        with the texts of all next to it in length while that is cheaper than runs of their own. Empty where no such
        request waits."""
        eligible = [
            request for request in self._requests if (small if request.small else bulk)
        ]
        if not eligible:
            return []
        first = min(eligible, key=lambda request: request.virtual_time)
        longest = first.waiting[-1][0]
        # A bulk request does not ride along with a small one: it would make that wait for a full batch.
        sharing = [request for request in eligible if request.small or not first.small]
        # Of equal lengths the one that had least goes first.
        sharing.sort(key=lambda request: (request is not first, request.virtual_time))
        limit = max(budget_tokens // max(longest, 1), 1)
        nearest = heapq.merge(
            *(_nearest(request, longest, limit) for request in sharing),
            key=lambda found: -found[1],
        )
        found = list(itertools.islice(nearest, limit))
        lengths = [length for _, length in found]
        together = _texts_of_first_run(lengths, self.run_cost.tokens)
        counts = Counter(request for request, _ in found[:together])
        batch = [
            (request, index)
            for request, count in counts.items()
            for index in self._pull(request, longest, count)
        ]
        self._virtual_time += self._work(longest) * len(batch) / len(self._requests)
        self._requests = [request for request in self._requests if request.waiting]
        self._note(self.tokens)
        return batch

    def _pull(self, request: Request, longest: int, count: int) -> list[int]:
        """Take the `count` longest texts of up to `longest` tokens; return which they are."""
        end = _end(request, longest)
        taken = request.waiting[end - count : end]
        del request.waiting[end - count : end]
        tokens = sum(length for length, _ in taken)
        request.tokens -= tokens
        self.tokens -= tokens
        request.virtual_time += self._work(longest) * count
        return [index for _, index in taken]

    def _work(self, length: int) -> float:
        """Return the work of a text padded to so many tokens, in tokens of a short one."""
        return length * (1 + length / self._square_tokens)


def _texts_of_first_run(lengths: Sequence[int], fixed: float) -> int:
    """Return how many of `lengths`, longest first, are the first run where all runs together cost least: each costs
    `fixed` and its padded tokens."""
    counts = [(length, len([*group])) for length, group in itertools.groupby(lengths)]
    rest = [0.0] * (len(counts) + 1)  # what the runs of the texts from there on cost
    first = 0
    for start in range(len(counts) - 1, -1, -1):
        longest, texts = counts[start][0], 0
        rest[start] = math.inf
        for end in range(start, len(counts)):
            texts += counts[end][1]
            cost = fixed + longest * texts + rest[end + 1]
            if cost < rest[start]:
                rest[start], first = cost, texts
    return first


def _nearest(
    request: Request, longest: int, count: int
) -> Iterator[tuple[Request, int]]:
    """Yield the lengths of up to `count` texts of up to `longest` tokens, the longest first."""
    end = _end(request, longest)
    for place in range(end - 1, max(end - count, 0) - 1, -1):
        yield request, request.waiting[place][0]


def _end(request: Request, longest: int) -> int:
    """Return how many of the waiting texts have up to `longest` tokens."""
    return bisect_right(request.waiting, (longest, len(request.rows)))
