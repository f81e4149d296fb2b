import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from embeddings.services import request_metrics
from embeddings.services import space_watch as module
from embeddings.services.cache.cache import embedding_cache
from embeddings.services.space_watch import SpaceWatch, show_drift, space_watch
from providers.canary import LEASE, Canary, accept
from providers.exceptions import (
    ProviderTimeout,
    ProviderUnavailable,
    SpaceDrifted,
)
from providers.models import RemoteSpace
from providers.operator_settings import reader
from providers.registry import registry
from providers.seeding import seed_registry
from tests.fakes import FakeHuggingFace, FakeOpenAI
from tests.waiting import poll

DAY = 86400
SMALL, ADA = FakeOpenAI.specs


class Clock:
    """Moments and seconds, moved together."""

    def __init__(self):
        self.now, self.seconds = timezone.now(), 0.0

    def __call__(self):
        return self.now

    def timer(self):
        return self.seconds

    def forward(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds


class Watch(SpaceWatch):
    """What a thread would do is done when a test says so."""

    def __init__(self, clock):
        canary = Canary(started_at=clock.now)
        canary.clock = clock
        self.works = []
        super().__init__(canary, start=self.works.append)
        self.timer, self.sleep = clock.timer, clock.forward

    def run(self):
        while self.works:
            self.works.pop()()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def openai(fakes, settings):
    settings.EMBEDDINGS_CANARY = True
    seed_registry(allowed_providers=[], allowed_models=[])
    fakes["openai"].problem = None
    return fakes["openai"]


@pytest.fixture
def watch(clock, openai):
    return Watch(clock)


def spec():
    """Return the model as a request finds it now."""
    reader.cache_clear()
    provider = registry().get("openai")
    assert provider is not None
    return registry().resolve(provider, SMALL.name)


def exchange(watch, openai, clock):
    """Have the model exchanged and found out."""
    watch.answered(openai, SMALL)
    watch.run()
    openai.variant = "another model: "
    clock.forward(DAY)
    watch.answered(openai, SMALL)
    watch.run()
    assert RemoteSpace.objects.get().state == "drifted"


def test_answer_does_not_wait_for_its_check(watch, openai):
    watch.answered(openai, SMALL)
    assert openai.calls == []
    watch.run()
    assert len(openai.calls) == 1


def test_answers_during_a_day_ask_neither_upstream_nor_database(
    watch, openai, clock, django_assert_num_queries
):
    watch.answered(openai, SMALL)
    watch.run()
    clock.forward(DAY - 1)
    with django_assert_num_queries(0):
        for _ in range(100):
            watch.answered(openai, SMALL)
    assert watch.works == []
    clock.forward(1)
    watch.answered(openai, SMALL)
    watch.run()
    assert len(openai.calls) == 2


def test_many_answers_at_once_are_one_check_of_one_thread(watch, openai):
    for _ in range(3):
        watch.answered(openai, SMALL)
        watch.answered(openai, ADA)
    assert len(watch.works) == 1
    watch.run()
    assert [asked.model for asked in openai.asked] == [SMALL, ADA]


def test_changed_address_is_looked_at_with_the_next_answer(watch, openai, monkeypatch):
    watch.answered(openai, SMALL)
    watch.run()
    moved = FakeOpenAI()
    monkeypatch.setattr(moved, "address", lambda: "https://two.example/v1")
    watch.answered(moved, SMALL)
    watch.run()
    assert len(moved.calls) == 1


def test_failed_check_is_made_again_after_a_pause(watch, openai, clock):
    openai.fault = ProviderUnavailable("down")
    watch.answered(openai, SMALL)
    watch.run()
    for _ in range(5):
        watch.answered(openai, SMALL)
    assert (watch.works, len(openai.calls)) == ([], 1)
    openai.fault = None
    clock.forward(60)
    watch.answered(openai, SMALL)
    watch.run()
    assert RemoteSpace.objects.get().checked_at == clock.now


def test_bug_of_one_plug_in_leaves_the_others_their_checks(watch, openai):
    class Acme(FakeOpenAI):
        name = "acme"

    openai.fault = KeyError("bug")
    watch.answered(openai, SMALL)
    good = Acme()
    watch.answered(good, ADA)
    watch.run()
    assert len(good.calls) == 1
    watch.answered(good, SMALL)
    watch.run()
    assert len(good.calls) == 2


def test_drift_that_another_process_found_is_followed_up_here(watch, openai, clock):
    exchange(Watch(clock), openai, clock)
    openai.variant = ""
    clock.forward(60)
    watch.answered(openai, SMALL)
    watch.run()
    openai.variant = "another model: "
    other = Watch(clock)
    clock.forward(1)
    with pytest.raises(SpaceDrifted):
        other.confirm(openai, SMALL, again=True)
    openai.variant = ""
    clock.forward(60)
    watch.answered(openai, spec())
    watch.run()
    assert RemoteSpace.objects.get().state == "ok"


def test_switched_off_it_does_nothing(watch, openai, settings):
    settings.EMBEDDINGS_CANARY = False
    watch.answered(openai, SMALL)
    watch.confirm(openai, SMALL, again=True)
    assert (watch.works, openai.calls) == ([], [])


def test_local_model_needs_no_confirmation(watch):
    local = FakeHuggingFace()
    watch.confirm(local, local.specs[0], again=True)
    assert local.calls == []


def test_what_is_due_is_checked_before_anything_is_stored(watch, openai, clock):
    watch.confirm(openai, SMALL)
    watch.confirm(openai, SMALL)
    assert len(openai.calls) == 1
    openai.variant = "another model: "
    clock.forward(DAY)
    with pytest.raises(SpaceDrifted) as caught:
        watch.confirm(openai, SMALL)
    assert "openai:text-embedding-3-small no longer gives" in caught.value.message
    assert "accept the new one in the console" in caught.value.message
    for _ in range(2):
        with pytest.raises(SpaceDrifted):
            watch.confirm(openai, spec())


def test_check_that_is_not_due_is_made_again_where_it_must(watch, openai, clock):
    watch.confirm(openai, SMALL)
    openai.variant = "another model: "
    clock.forward(1)
    watch.confirm(openai, SMALL)
    with pytest.raises(SpaceDrifted):
        watch.confirm(openai, SMALL, again=True)


def test_check_asked_for_by_an_answer_is_no_confirmation(watch, openai):
    openai.fault = ProviderUnavailable("down")
    watch.answered(openai, SMALL)
    watch.run()
    with pytest.raises(ProviderUnavailable):
        watch.confirm(openai, SMALL)


@pytest.mark.parametrize(("began_before", "asked"), [(1, 2), (-1, 1)])
def test_check_of_another_process_counts_if_it_began_late_enough(
    watch, openai, clock, began_before, asked
):
    watch.confirm(openai, SMALL)
    clock.forward(2)
    began = clock.now - timedelta(seconds=began_before)
    RemoteSpace.objects.update(lease_until=clock.now + timedelta(seconds=60))

    def end(seconds):
        clock.forward(seconds)
        RemoteSpace.objects.update(lease_until=None, checked_at=began)

    watch.sleep = end
    watch.confirm(openai, SMALL, again=True)
    assert len(openai.calls) == asked


def test_wait_for_other_processes_ends(watch, openai, clock):
    watch.confirm(openai, SMALL)
    clock.forward(1)

    def others_keep_checking(seconds):
        clock.forward(10 * seconds)
        RemoteSpace.objects.update(lease_until=clock.now + LEASE)

    others_keep_checking(0)
    watch.sleep = others_keep_checking
    with pytest.raises(ProviderTimeout):
        watch.confirm(openai, SMALL, again=True)
    assert len(openai.calls) == 1


def test_revision_accepted_meanwhile_is_not_the_one_asked_for(watch, openai, clock):
    exchange(watch, openai, clock)
    accept(RemoteSpace.objects.get().pk, by="eve")
    with pytest.raises(ProviderUnavailable) as caught:
        watch.confirm(openai, SMALL, again=True)
    assert "another revision" in caught.value.message
    watch.confirm(openai, spec(), again=True)


def test_cached_vectors_are_forgotten_when_a_space_drifts_and_when_it_is_back(
    watch, openai, clock
):
    def cached():
        return embedding_cache().stats().size

    def fill():
        embedding_cache().get_or_compute(
            [b"k"], lambda indices: openai_vector, timeout_seconds=1
        )
        poll(lambda: cached() == 1, what="the text in the store")

    openai_vector = FakeOpenAI().embed(
        SMALL, ["a"], dimensions=None, input_type="query", timeout_seconds=1
    )
    openai_vector = openai_vector.vectors
    watch.confirm(openai, SMALL)
    fill()
    clock.forward(DAY)
    watch.confirm(openai, SMALL)
    assert cached() == 1
    exchange(watch, openai, clock)
    assert cached() == 0
    fill()
    openai.variant = ""
    clock.forward(60)
    watch.confirm(openai, spec())
    assert cached() == 0


def test_metrics_show_drift_of_spaces_in_use_while_the_database_answers(
    watch, openai, clock
):
    exchange(watch, openai, clock)
    show_drift()
    gauge = request_metrics.space_drift.labels("openai", SMALL.name)
    assert gauge._value.get() == 1
    openai.address = lambda: "https://two.example/v1"
    assert module.spaces_in_use() == []


@pytest.mark.django_db(transaction=True)
def test_check_is_made_by_a_thread_that_ends(openai):
    openai.gate = threading.Event()
    space_watch().answered(openai, SMALL)
    assert openai.entered.acquire(timeout=20)  # the caller goes on meanwhile
    (thread,) = [t for t in threading.enumerate() if t.name == "space-check"]
    assert thread.daemon
    openai.gate.set()
    thread.join(20)
    assert RemoteSpace.objects.get().dimensions == 16
