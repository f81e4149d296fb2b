"""Waiting for what another thread or process is about to do, and failing where it does not."""

import time


def poll(condition, *, seconds=20.0, what):
    """Return the first true value of `condition`. Fails once `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return value
