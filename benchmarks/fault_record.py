"""What faults cost the clients of a server under load: recorded as they strike, then a table of docs/reliability.md."""

import collections
import http.client
import json
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contestants import REPOSITORY

PAGE = REPOSITORY / "docs" / "reliability.md"
ANSWERED, CUT_OFF, BUSY, WRONG = "200", "cut off", "503", "wrong answer"
GRACE_SECONDS = 2.0
REQUEST_ID = "X-Request-ID"


class WrongAnswer(Exception):
    """An answer is not the one that is known."""


@dataclass(slots=True)
class Fault:
    """One fault, and what the requests met that were under way until the next one.

    `back_at`: when what was hit was started or let go again; `over_at`: when it did its work again. None where nobody
    looked. `late`: failures of requests that began after that. Times are monotonic seconds.
    """

    name: str
    at: float
    back_at: float | None = None
    over_at: float | None = None
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    longest_seconds: float = 0.0
    last_error_at: float | None = None
    late: int = 0

    @property
    def recovery_seconds(self) -> float:
        """How long after it was brought back (or struck, where nobody had to) all was well, and no request failed."""
        since = self.at if self.back_at is None else self.back_at
        return max(0.0, (self.over_at or since) - since, (self.last_error_at or since) - since)  # fmt: skip

    @property
    def others(self) -> dict[str, int]:
        """What no client should see."""
        usual = (ANSWERED, CUT_OFF, BUSY)
        return {name: n for name, n in self.outcomes.items() if name not in usual}


class FaultRecord:
    """The faults so far. A request counts for the fault that struck last before it ended if it failed, else for the one
    before it began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.faults = [Fault("none", time.monotonic())]

    def strike(self, name: str) -> Fault:
        """Note that a fault strikes now."""
        with self._lock:
            self.faults.append(Fault(name, time.monotonic()))
            return self.faults[-1]

    def ask(self, outcome_of: Callable[[], str]) -> str:
        """Ask and note how it ended."""
        with self._lock:
            fault = self.faults[-1]
        began = time.monotonic()
        outcome = outcome_of()
        ended = time.monotonic()
        with self._lock:
            if outcome != ANSWERED:
                fault = self.faults[-1]
                fault.last_error_at = ended
                over_at = fault.over_at
                fault.late += over_at is not None and began > over_at + GRACE_SECONDS
            fault.outcomes[outcome] += 1
            fault.longest_seconds = max(fault.longest_seconds, ended - began)
        return outcome

    def total(self, outcome: str) -> int:
        """Return how many requests ended so."""
        return sum(fault.outcomes[outcome] for fault in self.faults)

    def table(self) -> str:
        """Return what each kind of fault cost, as Markdown."""
        kinds: dict[str, list[Fault]] = collections.defaultdict(list)
        for fault in self.faults:
            kinds[fault.name].append(fault)
        lasted = any(fault.over_at for fault in self.faults)
        columns = ["fault", "times", *(["lasted s, longest"] if lasted else [])]
        columns += ["answered", "cut off", "503 with Retry-After", "other errors"]
        columns += ["longest request s", "recovery s, median and longest"]
        lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        for name, faults in sorted(kinds.items()):
            sums = sum((fault.outcomes for fault in faults), collections.Counter[str]())
            others = sum((collections.Counter(f.others) for f in faults), collections.Counter[str]())  # fmt: skip
            recovery = [fault.recovery_seconds for fault in faults]
            longest = max((f.over_at or f.at) - f.at for f in faults)
            lines.append(
                f"| {name} | {len(faults)} |{f' {longest:.1f} |' if lasted else ''}"
                f" {sums[ANSWERED]:,} | {sums[CUT_OFF]} | {sums[BUSY]}"
                f" | {', '.join(f'{k}: {n}' for k, n in others.items()) or 'none'}"
                f" | {max(fault.longest_seconds for fault in faults):.1f}"
                f" | {statistics.median(recovery):.1f}, {max(recovery):.1f} |"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One caller of the API at a port of this machine, with a key, or the token of a login."""

    port: int
    key: str = ""
    token: str = ""

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        fallback: str = "any",
    ) -> dict[str, Any]:
        """Return what a call answers. Raises OSError (HTTPError included) and HTTPException."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={
                **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
                **({"X-API-KEY": self.key} if self.key else {}),
                "Content-Type": "application/json",
                "X-Embeddings-Fallback": fallback,
            },
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            read: dict[str, Any] = json.loads(answer.read() or b"{}")
            return read


def outcome_of(call: Callable[[], object]) -> str:
    """Return how a call ended. What a proxy says itself, with no request's id, is a request that was cut off."""
    try:
        call()
    except urllib.error.HTTPError as error:
        if not error.headers.get(REQUEST_ID):
            return CUT_OFF if error.code in (502, 503, 504) else f"{error.code} of nobody"  # fmt: skip
        waits = error.headers.get("Retry-After")
        return f"{error.code}" if waits else f"{error.code} without Retry-After"
    except (OSError, http.client.HTTPException):
        return CUT_OFF
    except WrongAnswer:
        return WRONG
    return ANSWERED


def publish(name: str, text: str) -> None:
    """Write `text` between the marks of that name in docs/reliability.md."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    page = PAGE.read_text()
    head, rest = page.split(begin)
    PAGE.write_text(f"{head}{begin}\n{text}\n\n{end}{rest.split(end)[1]}")


def listed(counts: Iterable[tuple[str, int]]) -> str:
    """Return counts as words: `3 completed, 1 failed`."""
    return ", ".join(f"{count} {name}" for name, count in counts) or "none"
