"""How long this process waits for its database, and how it leaves one alone that does not answer.

A process that serves waits for a bounded time. PostgreSQL's own limits end a statement that is slow; a server that is
frozen or cut off keeps no limits, so the client counts, too. Once it has waited in vain, one caller a second asks, and
the others fail at once: a frozen database costs each thread one wait, not one for each request.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from providers.state.timed import Rest

REST_SECONDS = 1.0
CONNECT_SECONDS = 5
# For look-ups by primary key that every request makes, and that have a last known answer.
LOOKUP_SECONDS = 3.0
# How long what was read last holds while the database is away: keys and their users, and so this server's readiness.
KEPT_SECONDS = 60.0

ABSENT = "The database does not answer."


class Waits:
    """What this process knows of its database. `seconds`: the longest wait for an answer; None: as long as it takes.

    `may_ask`: whether to ask now; while the database does not answer, one caller a second may. `unanswered` and
    `answered` note how a wait ended.
    """

    timer = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.serving = False
        self.seconds: float | None = None
        self._own = threading.local()
        self._rest = Rest(REST_SECONDS, timer=lambda: self.timer())
        self.may_ask, self.unanswered = self._rest.may_ask, self._rest.failed
        self.answered = self._rest.worked

    def serve(self, seconds: float | None) -> None:
        """Be a process that serves: its data folder is there, and is never made again; no wait is longer."""
        self.serving, self.seconds = True, seconds

    def patience(self) -> float | None:
        """Return the seconds that this thread waits for an answer; None: for as long as it takes."""
        own: float | None = getattr(self._own, "seconds", None)
        if own is None or self.seconds is None:
            return self.seconds
        return min(own, self.seconds)

    @contextlib.contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Have this thread wait no longer than this inside of the `with`, in a process whose waits are bounded."""
        before = getattr(self._own, "seconds", None)
        self._own.seconds = seconds
        try:
            yield
        finally:
            self._own.seconds = before


# Not @owned: that this process serves holds for the children it forks, too, such as the cluster's workers.
waits = Waits()
