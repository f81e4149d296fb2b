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


def settled(read, *, what):
    """Return what `read` returns once it no longer changes: what was written behind an answer has arrived."""
    seen = []

    def is_settled():
        seen.append(read())
        return len(seen) >= 15 and len({*seen[-15:]}) == 1

    poll(is_settled, what=what)
    return seen[-1]
