"""Who gets a place in memory, with contents that are mere names."""

import contextvars
import random
import threading
import time

import pytest

from providers.engine.memory import ModelMemory
from providers.exceptions import Abandoned, EngineClosed, Overloaded
from providers.waiting import caller_left

SLICE = 10.0


@pytest.fixture(autouse=True)
def nobody_looks_unasked(monkeypatch):
    """Have who waits go on when the test says so, and never by chance."""
    monkeypatch.setattr("providers.engine.memory._LOOK_AGAIN_SECONDS", 1000.0)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class World:
    """A memory of `limit` bytes, whose contents take one byte each, and what happened there."""

    def __init__(self, limit=1, **options):
        self.clock = Clock()
        self.loads, self.ended, self.busy = [], [], set()
        self.memory = ModelMemory(
            lambda: limit,
            put_out=self.put_out,
            **{"clock": self.clock, "slice_seconds": SLICE, **options},
        )

    def load(self, name):
        self.loads.append(name)
        return name

    def put_out(self, content, idle_seconds):
        if content in self.busy:
            return False
        self.ended.append(content)
        return True

    def using(self, name, *, size=1, load=None, timeout_seconds=1000.0):
        return self.memory.using(
            name,
            lambda: size,
            load or (lambda: self.load(name)),
            timeout_seconds=timeout_seconds,
        )

    def user(self, name, **options):
        return User(self, name, **options)

    def waiting(self, name, **options):
        """Return a user that waits in line."""
        before = len(self.memory._line)
        user = self.user(name, **options)
        until(lambda: len(self.memory._line) > before)
        return user


class User(threading.Thread):
    """Uses a content in a thread of its own until it is let go."""

    def __init__(self, world, name, **options):
        super().__init__(daemon=True)
        self.world, self.named, self.options = world, name, options
        self.entered, self.released = threading.Event(), threading.Event()
        self.error = None
        self.start()

    def run(self):
        try:
            with self.world.using(self.named, **self.options):
                self.entered.set()
                assert self.released.wait(60)
        except Exception as error:
            self.error = error

    def inside(self):
        assert self.entered.wait(20)
        return self

    def done(self):
        self.released.set()
        self.join(20)
        assert not self.is_alive()
        return self.error


def until(condition):
    ended = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ended
        threading.Event().wait(0.001)


def test_what_is_loaded_is_lent_to_all_who_ask():
    world = World()
    users = [world.user("a").inside() for _ in range(3)]
    assert [user.done() for user in users] == [None] * 3
    assert world.loads == ["a"]


def test_what_nobody_uses_is_unloaded_at_once_the_longest_unused_first():
    world = World(limit=2)
    for name in ("a", "b", "a"):
        with world.using(name):
            world.clock.now += 1
    with world.using("c"):
        assert world.ended == ["b"]


def test_two_that_do_not_fit_together_take_turns():
    world = World()
    first = world.user("a").inside()
    world.clock.now = SLICE
    other = world.waiting("b")
    again = world.waiting("a")  # its time is over
    first.done()
    other.inside().done()
    again.inside().done()
    assert world.loads == ["a", "b", "a"]


def test_within_its_time_it_takes_new_users_though_others_wait():
    world = World()
    first = world.user("a").inside()
    other = world.waiting("b")
    world.clock.now = SLICE - 1
    second = world.user("a").inside()
    world.clock.now = SLICE
    third = world.waiting("a")
    first.done()
    assert not other.entered.is_set()
    second.done()
    other.inside().done()
    third.inside().done()
    assert world.loads == ["a", "b", "a"]


def test_loading_for_longer_than_the_slice_earns_as_much_time():
    world = World()

    def load():
        world.clock.now += 3 * SLICE
        return world.load("a")

    first = world.user("a", load=load).inside()
    other = world.waiting("b")
    world.clock.now += 2 * SLICE
    second = world.user("a").inside()
    for user in (first, second, other):
        user.done()


def test_all_who_waited_for_it_are_served_by_one_loading():
    world = World()
    first = world.user("a").inside()
    world.clock.now = SLICE
    waited = [world.waiting("b") for _ in range(20)]
    again = world.waiting("a")
    for user in waited:
        user.released.set()  # so each is done at once, and between two there may be none
    first.done()
    assert [user.done() for user in waited] == [None] * 20
    again.inside().done()
    assert world.loads == ["a", "b", "a"]


def test_who_came_first_goes_first_even_if_a_later_one_would_fit():
    world = World(limit=3)
    first = world.user("a", size=2).inside()
    large = world.waiting("b", size=3)
    small = world.waiting("c", size=1)
    assert world.loads == ["a"]
    first.done()
    large.inside().done()
    small.inside().done()
    assert world.loads == ["a", "b", "c"]


def test_only_as_many_are_unloaded_as_the_memory_needs():
    world = World(limit=2)
    oldest = world.user("a").inside()
    world.clock.now = 1
    newer = world.user("b").inside()
    world.clock.now = 2 * SLICE
    other = world.waiting("c")
    more = world.user("b").inside()  # takes new users: the older one goes
    oldest.done()
    other.inside()
    assert world.ended == ["a"]
    for user in (newer, more, other):
        user.done()


def test_who_gets_no_memory_in_its_time_learns_when_to_ask_again():
    world = World()
    with (
        world.using("a"),
        pytest.raises(Overloaded) as refused,
        world.using("b", timeout_seconds=0),
    ):
        pass
    assert (refused.value.retry_after_seconds or 0) >= 1


def test_when_the_one_who_waited_gives_up_the_others_go_on():
    world = World()
    first = world.user("a").inside()
    world.clock.now = SLICE
    other = world.waiting("b", timeout_seconds=1)
    second = world.waiting("a")
    world.clock.now += 1
    other.join(20)
    assert isinstance(other.error, Overloaded)
    second.inside()
    assert world.loads == ["a"]
    first.done()
    second.done()


def test_nobody_waits_for_a_caller_who_left():
    world = World()
    gone = contextvars.copy_context()
    gone.run(caller_left.set, lambda: True)

    def ask():
        with world.using("b"):
            pass

    with world.using("a"), pytest.raises(Abandoned):
        gone.run(ask)
    with world.using("b"):
        assert world.loads == ["a", "b"]


def test_different_ones_are_loaded_at_the_same_time():
    world = World(limit=2)
    both = threading.Barrier(2)

    def load():
        both.wait(20)
        return "loaded"

    users = [world.user(name, load=load) for name in ("a", "b")]
    assert [user.inside().done() for user in users] == [None, None]


def test_a_failed_loading_leaves_its_memory_to_the_next():
    world = World()
    started, fails = threading.Event(), threading.Event()

    def load():
        started.set()
        assert fails.wait(20)
        raise ValueError("damaged")

    first = world.user("a", load=load)
    assert started.wait(20)
    second = world.waiting("a")
    third = world.waiting("b")
    fails.set()
    first.join(20)
    assert str(first.error) == "damaged"
    second.inside().done()
    third.inside().done()
    assert world.loads == ["a", "b"]


def test_what_grew_is_counted():
    world = World(limit=3)
    with world.using("a"):
        assert world.memory.grow("a", 1)
        assert not world.memory.grow("a", 2)
        other = world.waiting("b", size=2)
        assert not world.memory.grow("a", 1)  # it is awaited
    other.inside().done()
    assert world.ended == ["a"]


def test_what_still_works_for_nobody_is_put_out_when_it_ends(monkeypatch):
    monkeypatch.setattr("providers.engine.memory._LOOK_AGAIN_SECONDS", 0.001)
    world = World(clock=time.monotonic)
    with world.using("a"):
        world.busy.add("a")
    other = world.waiting("b")
    assert world.ended == []
    world.busy.clear()
    other.inside().done()
    assert world.ended == ["a"]


def test_what_was_dropped_while_it_was_loaded_is_not_lent():
    world = World()

    def load():
        assert world.memory.drop("a") is None
        return world.load("a")

    with pytest.raises(EngineClosed), world.using("a", load=load):
        pass
    assert world.ended == ["a"]
    with world.using("a") as content:
        assert content == "a"


@pytest.mark.parametrize("seed", range(3))
def test_whoever_asks_in_whatever_order_is_served_within_the_limit(seed):
    chance = random.Random(seed)
    world = World(limit=3, clock=time.monotonic, slice_seconds=0.002)
    sizes = {"a": 1, "b": 2, "c": 3, "d": 2}
    lock, inside, most, errors = threading.Lock(), dict.fromkeys(sizes, 0), [], []

    def use(names):
        for name in names:
            try:
                with world.using(name, size=sizes[name], timeout_seconds=60):
                    with lock:
                        inside[name] += 1
                        most.append(sum(sizes[n] for n in sizes if inside[n]))
                    with lock:
                        inside[name] -= 1
            except Exception as error:
                errors.append(error)

    threads = [
        threading.Thread(target=use, args=[chance.choices(list(sizes), k=25)])
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    assert len(most) == 12 * 25
    assert max(most) <= 3
