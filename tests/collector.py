"""What is let go of at once, and what only a full garbage collection would find."""

import contextlib
import gc
import threading
import weakref


class Large:
    """Stands for what a frame holds: a model, a request's texts."""


class Held:
    """Makes large things and tells how many of them are still alive."""

    def __init__(self):
        self._made = []

    def __call__(self):
        made = Large()
        self._made.append(weakref.ref(made))
        return made

    def alive(self):
        assert self._made, "nothing was made"
        return sum(made() is not None for made in self._made)


@contextlib.contextmanager
def collector_off():
    """Leave cycles alone, so that what hangs on one is still there."""
    gc.collect()
    gc.disable()
    try:
        yield Held()
    finally:
        gc.enable()


def failing(ask, kind):
    """Call `ask`, which raises `kind`, handle that, and keep nothing of it."""
    try:
        ask()
    except kind:
        return
    raise AssertionError(f"{kind} was not raised")


def together(*tasks):
    """Run each task in a thread of its own and return when all have ended."""
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
