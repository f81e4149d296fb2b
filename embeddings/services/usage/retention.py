"""How long what charts and the log of requests show is kept. Any process may cut it, and several at once."""

import time

import structlog
from django.db import DatabaseError, InterfaceError
from django.db.models import Max

from embeddings.conf import conf
from embeddings.models import HOUR, MINUTE, LatencyCount, Level, LoggedRequest, Traffic

DAY = 86400
EVERY_SECONDS = 300.0

log = structlog.get_logger(__name__)


class Retention:
    """Cuts from time to time."""

    timer = staticmethod(time.monotonic)
    clock = staticmethod(time.time)

    def __init__(self) -> None:
        self._due_at = self.timer() + EVERY_SECONDS / 10

    def when_due(self) -> None:
        """Do it if some minutes have passed."""
        if self.timer() < self._due_at:
            return
        self._due_at = self.timer() + EVERY_SECONDS
        try:
            cut(now=int(self.clock()))
        except (DatabaseError, InterfaceError) as error:
            log.warning("traffic_not_cut", reason=type(error).__name__)


def cut(*, now: int) -> None:
    """Delete what is too old, and all but the last requests. Raises DatabaseError."""
    kept_days = {MINUTE: conf().traffic_minute_days, HOUR: conf().traffic_days}
    for table in (Traffic, LatencyCount, Level):
        for span, days in kept_days.items():
            if days:
                old = {"span": span, "start__lt": now - days * DAY}
                table.objects.filter(**old).delete()
    newest = LoggedRequest.objects.aggregate(newest=Max("pk"))["newest"]
    if newest:
        LoggedRequest.objects.filter(pk__lte=newest - conf().request_log).delete()
