"""What workers do when they are called."""

import time
from multiprocessing import RawValue

from media_jobs.services.claims import claim_next
from media_jobs.services.runs import run

# A worker that is called does what there is to do, for so long; then it lets go, and is called again.
SHIFT_SECONDS = 600.0
# 1 from when the worker has to stop: nothing more is begun. Shared by all processes forked since.
closing = RawValue("b", 0)


def work() -> None:
    """Run the jobs that are due, the most urgent first."""
    end = time.monotonic() + SHIFT_SECONDS
    while not closing.value and time.monotonic() < end:
        job = claim_next()
        if job is None:
            return
        run(job, until=end)
