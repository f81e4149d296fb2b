"""Processes that `serve` forks: each ends with it, and has a process group of its own."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def start_process(run: Callable[[], None]) -> "ForkProcess":
    """Fork a process that does `run`, and ends with this one. No connection to a database may be open."""
    process = multiprocessing.get_context("fork").Process(target=_be, args=[run])
    # This process's answers to signals are not for the other: held back until it has forgotten them.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    process.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return process


def _be(run: Callable[[], None]) -> None:
    from media_jobs.cluster.cluster import end_with_parent  # Django is set up only now

    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.setpgrp()
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    run()
