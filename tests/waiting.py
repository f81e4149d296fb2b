"""Waiting for what another thread or process is about to do, and failing where it does not."""

import time


def poll(condition, *, seconds=20.0, what):
    """Return the first true value of `condition`. Fails once `seconds` have passed.

    It looks often at first, then less: each look takes time from the process that it waits for.
    """
    start = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - start
        if waited > seconds:
            raise AssertionError(f"Not within {seconds:g} s: {what}")
        time.sleep(min(max(0.01, waited / 20), 0.05))
    return value
