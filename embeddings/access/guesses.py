"""Wrong keys and tokens: counted by the client's address for all processes, answered 429 when too many, and logged.

What is right goes in whatever came from its address before: the server's key and tokens are checked without the
database, and so are the keys in use. Where an address has sent too many wrong ones, the database is not asked for a key
that is not among those.
"""

import math
import threading
import time

import structlog
from django.http import HttpRequest
from rest_framework import exceptions
from rest_framework.request import Request

from embeddings.access.client_address import client_address
from embeddings.access.limiter.gcra import MICROSECONDS, Rate
from embeddings.access.limiter.limiter import limiter
from embeddings.conf import conf
from providers.state.process import owned

SHORTEST_KEY = 16  # what is shorter beside a good credential is a placeholder, no guess
MAX_ADDRESSES = 10_000
LINES_A_MINUTE = 120  # of a process, whatever comes from wherever

log = structlog.get_logger(__name__)


class TooManyGuesses(exceptions.APIException):
    """Too many wrong credentials came from this address. `wait`: whole seconds until one more is looked at."""

    status_code = 429
    default_code = "rate_limit_exceeded"

    def __init__(self, seconds: float) -> None:
        self.wait = max(1, math.ceil(seconds))
        when = "1 second" if self.wait == 1 else f"{self.wait} seconds"
        super().__init__(
            f"Too many wrong keys or tokens came from your address; try again in {when}."
        )


class Guesses:
    """What this process knows of the addresses that guess, and how much of it the log was given."""

    timer = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent_until: dict[str, float] = {}
        self._minute = 0.0
        self._lines = 0

    def wait(self, address: str) -> float:
        """Return for how many seconds the address is known to have no more guesses."""
        until = self._spent_until.get(address, 0.0)
        return max(0.0, until - self.timer())

    def take(self, address: str) -> float:
        """Count one guess and return 0, or the seconds until there is another, which is then not looked up again."""
        per_minute = conf().access.guesses_per_minute
        if not per_minute:
            return 0.0
        if seconds := self.wait(address):
            return seconds
        rate = Rate(per_minute=per_minute, burst=per_minute)
        standing = limiter().take(f"guess:{address}", rate)
        if standing.allowed:
            return 0.0
        seconds = standing.retry_after / MICROSECONDS
        with self._lock:
            if len(self._spent_until) >= MAX_ADDRESSES:
                self._spent_until.clear()
            self._spent_until[address] = self.timer() + seconds
        return seconds

    def write_down(self, *, address: str, credential: str) -> None:
        """Log a failure, unless this minute has had its lines; then say in the next how many were left out."""
        with self._lock:
            now, left_out = self.timer(), 0
            if now - self._minute >= 60:
                left_out = max(0, self._lines - LINES_A_MINUTE)
                self._minute, self._lines = now, 0
            self._lines += 1
            has_line = self._lines <= LINES_A_MINUTE
        if left_out:
            log.warning("authentication_failures_not_logged", count=left_out)
        if has_line:
            log.warning("authentication_failed", address=address, credential=credential)


@owned
def guesses() -> Guesses:
    """Return what this process knows."""
    return Guesses()


def refuse_guess(request: Request | HttpRequest, credential: str) -> None:
    """Count and log a wrong credential, named by its kind and never by its text. Raises TooManyGuesses."""
    if seconds := _counted(request, credential):
        raise TooManyGuesses(seconds)


def note_guess(request: Request, text: str, credential: str) -> None:
    """Count and log a wrong credential that came beside a good one, which refuses nothing."""
    if len(text) >= SHORTEST_KEY:
        _counted(request, credential)


def seconds_to_wait(request: Request) -> float:
    """Return for how many seconds the client's address is known to have no more guesses."""
    return guesses().wait(client_address(request._request))


def _counted(request: Request | HttpRequest, credential: str) -> float:
    plain = request._request if isinstance(request, Request) else request
    address = client_address(plain)
    seconds = guesses().take(address)
    if not seconds:
        guesses().write_down(address=address, credential=credential)
    return seconds
