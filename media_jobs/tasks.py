"""What workers do when they are called."""

import time

from media_jobs.services.claims import claim_next
from media_jobs.services.runs import run
from media_jobs.services.webhooks import deliver_due

# A worker that is called does what there is to do, for so long; then it lets go, and is called again.
SHIFT_SECONDS = 600.0


def work() -> None:
    """Run the jobs that are due, the most urgent first, and tell those who asked to be told."""
    end = time.monotonic() + SHIFT_SECONDS
    while time.monotonic() < end and (job := claim_next()) is not None:
        run(job, until=end)
        deliver_due()
    deliver_due()
