from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from providers import canary as canary_module
from providers.base import Embedded
from providers.canary import LEASE, TEXTS, Canary, accept, address_key
from providers.exceptions import (
    BreakerOpen,
    ProviderMalformed,
    ProviderThrottled,
    ProviderUnavailable,
)
from providers.models import Breaker, RemoteSpace, Revision
from providers.operator_settings import reader
from providers.plugins.local_api import LocalApiProvider
from providers.registry import registry
from providers.seeding import seed_registry
from tests.fakes import FakeOpenAI

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


class Clock:
    def __init__(self):
        self.now = timezone.now()

    def __call__(self):
        return self.now


class Upstream(FakeOpenAI):
    """At an address that a test changes, giving exactly `vectors` if a test says so."""

    def __init__(self, address="https://one.example/v1"):
        super().__init__()
        self.at = address
        self.vectors = None
        self.meanwhile = None

    def address(self):
        return self.at

    def embed(self, model, texts, **asked):
        embedded = super().embed(model, texts, **asked)
        if self.meanwhile:
            self.meanwhile()
        return embedded if self.vectors is None else Embedded(vectors=self.vectors)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture
def canary(clock):
    return process(clock)


def process(clock, *, started_at=None):
    """Return the canary of one more process."""
    canary = Canary(started_at=started_at or clock.now)
    canary.clock = clock
    return canary


SMALL, ADA = FakeOpenAI.specs


def row(**where):
    return RemoteSpace.objects.get(**where)


def drifted(canary, upstream, clock, model=SMALL):
    """Have `model` exchanged and found out."""
    canary.check(upstream, model)
    upstream.variant += "another model: "
    clock.now += DAY
    verdict = canary.check(upstream, model)
    assert verdict.drifted
    return row(model=model.name, address=address_key(upstream.address()))


def turned(vectors, cosine):
    """Return vectors of that cosine to those given."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / lengths
    across = np.roll(unit, 1, axis=1)
    across -= unit * (unit * across).sum(axis=1, keepdims=True)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    turned = unit * cosine + across * (1 - cosine**2) ** 0.5
    return (turned * lengths).astype(np.float32)


def test_first_answer_is_kept(canary, upstream):
    verdict = canary.check(upstream, SMALL)
    assert (verdict.drifted, verdict.revision, verdict.changed) == (False, 1, False)
    kept = np.frombuffer(row().reference, "<f4").reshape(3, 16)
    assert (kept == FakeOpenAI().embed(SMALL, TEXTS, **UNASKED).vectors).all()
    assert row().dimensions == 16
    (asked,) = upstream.asked
    assert (asked.model, asked.texts) == (SMALL, list(TEXTS))
    assert (asked.dimensions, asked.input_type) == (None, "document")


UNASKED = {"dimensions": None, "input_type": "document", "timeout_seconds": 1}


def test_upstream_is_asked_once_a_day(canary, upstream, clock):
    canary.check(upstream, SMALL)
    clock.now += DAY - SECOND
    canary.check(upstream, SMALL)
    assert len(upstream.calls) == 1
    clock.now += SECOND
    canary.check(upstream, SMALL)
    assert len(upstream.calls) == 2


def test_upstream_is_asked_once_after_a_start_by_all_processes(canary, upstream, clock):
    canary.check(upstream, SMALL)
    clock.now += 60 * SECOND
    started_at = clock.now
    for _ in range(3):
        process(clock, started_at=started_at).check(upstream, SMALL)
        clock.now += SECOND
    assert len(upstream.calls) == 2


def test_other_vectors_are_drift_which_all_processes_learn(canary, upstream, clock):
    canary.check(upstream, SMALL)
    upstream.variant = "another model: "
    clock.now += DAY
    before = Revision.objects.filter(pk=1).values_list("number", flat=True).first()
    verdict = canary.check(upstream, SMALL)
    assert (verdict.drifted, verdict.changed, verdict.revision) == (True, True, 1)
    assert (row().state, row().checked_at) == ("drifted", clock.now)
    assert row().cosine < 0.999
    assert Revision.objects.get().number > (before or 0)


@pytest.mark.parametrize(("cosine", "drifts"), [(0.99905, False), (0.99895, True)])
def test_limit_is_a_cosine_of_0_999(canary, upstream, clock, cosine, drifts):
    canary.check(upstream, SMALL)
    first = FakeOpenAI().embed(SMALL, TEXTS, **UNASKED).vectors
    upstream.vectors = first.copy()
    upstream.vectors[2] = turned(first, cosine)[2]  # the other two are as before
    clock.now += DAY
    assert canary.check(upstream, SMALL).drifted is drifts
    assert row().cosine == pytest.approx(cosine, abs=1e-5)


def test_longer_vectors_of_the_same_direction_are_no_drift(canary, upstream, clock):
    canary.check(upstream, SMALL)
    first = FakeOpenAI().embed(SMALL, TEXTS, **UNASKED).vectors
    upstream.vectors = first * np.float32(7.5)
    clock.now += DAY
    assert not canary.check(upstream, SMALL).drifted


def test_another_width_is_drift(canary, upstream, clock):
    canary.check(upstream, SMALL)
    upstream.vectors = FakeOpenAI().embed(SMALL, TEXTS, **UNASKED).vectors[:, :8]
    clock.now += DAY
    assert canary.check(upstream, SMALL).drifted
    assert (row().cosine, row().dimensions) == (0.0, 16)


def test_drift_ends_when_the_former_model_is_back_and_is_looked_for_each_minute(
    canary, upstream, clock
):
    drifted(canary, upstream, clock)
    upstream.variant = ""
    clock.now += 59 * SECOND
    assert canary.check(upstream, SMALL).drifted
    clock.now += SECOND
    verdict = canary.check(upstream, SMALL)
    assert (verdict.drifted, verdict.changed, verdict.revision) == (False, True, 1)
    assert row().state == "ok"


def test_kept_vectors_are_not_those_of_the_drift(canary, upstream, clock):
    drifted(canary, upstream, clock)
    clock.now += DAY
    assert canary.check(upstream, SMALL).drifted


def test_two_processes_do_not_ask_twice(canary, upstream, clock):
    seen = []

    def look():
        seen.append(process(clock).check(upstream, SMALL))

    upstream.meanwhile = look
    assert canary.check(upstream, SMALL).drifted is False
    assert seen == [None]
    assert len(upstream.calls) == 1


def test_process_that_read_before_another_s_check_ended_does_not_ask_again(
    canary, upstream, clock, monkeypatch
):
    original = canary_module._claim

    def after_the_other(*args, **kwargs):
        monkeypatch.setattr(canary_module, "_claim", original)
        process(clock).check(upstream, SMALL)
        return original(*args, **kwargs)

    monkeypatch.setattr(canary_module, "_claim", after_the_other)
    assert canary.check(upstream, SMALL) is None
    assert len(upstream.calls) == 1


def test_check_of_a_process_that_died_is_forgotten_and_never_written(
    canary, upstream, clock
):
    def take_over():
        upstream.meanwhile = None
        clock.now += LEASE - SECOND
        assert process(clock).check(upstream, SMALL) is None
        clock.now += SECOND
        upstream.variant = "the later one: "
        process(clock).check(upstream, SMALL)

    upstream.meanwhile = take_over
    assert canary.check(upstream, SMALL) is None
    first = np.frombuffer(row().reference, "<f4")
    later = FakeOpenAI()
    later.variant = "the later one: "
    assert (first == later.embed(SMALL, TEXTS, **UNASKED).vectors.ravel()).all()


def test_clock_set_back_holds_no_check_of_a_process_that_died(canary, upstream, clock):
    canary.check(upstream, SMALL)
    clock.now += DAY
    RemoteSpace.objects.update(lease_until=clock.now + LEASE)
    assert canary.check(upstream, SMALL) is None
    RemoteSpace.objects.update(lease_until=clock.now + LEASE + timedelta(hours=1))
    assert canary.check(upstream, SMALL) is not None


def test_failed_check_is_no_drift_and_is_made_again_later_each_time(
    canary, upstream, clock
):
    canary.check(upstream, SMALL)
    clock.now += DAY
    upstream.fault = ProviderThrottled("openai is throttling.")
    pauses = []
    for _ in range(6):
        with pytest.raises(ProviderThrottled):
            canary.check(upstream, SMALL)
        assert (row().state, row().last_error) == ("ok", "openai is throttling.")
        pauses.append((row().retry_at - clock.now).total_seconds())
        verdict = canary.check(upstream, SMALL)
        assert (verdict.known, verdict.fresh_seconds) == (False, pauses[-1])
        clock.now = row().retry_at
        Breaker.objects.all().delete()
    assert pauses == [60, 120, 240, 480, 600, 600]
    upstream.fault = None
    assert canary.check(upstream, SMALL).known
    assert (row().last_error, row().retry_at, row().failures) == ("", None, 0)


def test_who_must_know_does_not_wait_for_the_pause(canary, upstream):
    upstream.fault = ProviderUnavailable("down")
    with pytest.raises(ProviderUnavailable):
        canary.check(upstream, SMALL)
    upstream.fault = None
    assert canary.check(upstream, SMALL, urgent=True).known


def test_bug_of_a_plug_in_leaves_no_lease(canary, upstream):
    upstream.fault = KeyError("bug")
    with pytest.raises(KeyError):
        canary.check(upstream, SMALL)
    upstream.fault = None
    assert canary.check(upstream, SMALL).known


def test_open_breaker_keeps_requests_from_the_upstream(canary, upstream):
    Breaker.objects.create(
        provider="openai", state="open", retry_at=timezone.now() + 50 * SECOND
    )
    with pytest.raises(BreakerOpen):
        canary.check(upstream, SMALL)
    assert upstream.calls == []


@pytest.mark.parametrize(
    "vectors",
    [np.ones((2, 16)), np.ones(3), np.ones((3, 0)), np.full((3, 16), np.nan)],
)
def test_senseless_answer_is_not_kept(canary, upstream, vectors):
    upstream.vectors = vectors.astype(np.float32)
    with pytest.raises(ProviderMalformed):
        canary.check(upstream, SMALL)
    assert row().dimensions is None


def test_same_model_at_another_address_is_no_drift(canary, upstream, clock):
    canary.check(upstream, SMALL)
    moved = Upstream("https://two.example/v1")
    verdict = canary.check(moved, SMALL)
    assert (verdict.drifted, verdict.revision) == (False, 1)
    assert len(moved.calls) == 1


def test_new_address_is_made_known_to_all_processes(canary, upstream):
    canary.check(upstream, SMALL)
    Revision.bump()
    before = Revision.objects.get().number
    canary.check(Upstream("https://two.example/v1"), SMALL)
    assert Revision.objects.get().number == before + 1


def test_another_model_at_another_address_is_drift_there(canary, upstream, clock):
    canary.check(upstream, SMALL)
    moved = Upstream("https://two.example/v1")
    moved.variant = "another model: "
    assert canary.check(moved, SMALL).drifted
    assert not canary.check(upstream, SMALL).drifted
    states = RemoteSpace.objects.values_list("host", "state")
    assert dict(states) == {"one.example": "ok", "two.example": "drifted"}


def test_new_address_is_compared_with_the_one_checked_last(canary, upstream, clock):
    canary.check(upstream, SMALL)
    second, third = Upstream("https://two.example"), Upstream("https://three.example")
    second.variant = third.variant = "another model: "
    clock.now += SECOND
    canary.check(second, SMALL)
    accept(row(host="two.example").pk, by="eve")
    verdict = canary.check(third, SMALL)
    assert (verdict.drifted, verdict.revision) == (False, 2)


def test_back_at_the_former_address_vectors_have_their_former_revision(
    canary, upstream, clock
):
    canary.check(upstream, SMALL)
    moved = Upstream("https://two.example/v1")
    moved.variant = "another model: "
    canary.check(moved, SMALL)
    accept(row(host="two.example").pk, by="eve")
    assert canary.check(moved, SMALL).revision == 2
    assert canary.check(upstream, SMALL).revision == 1


SECRET = "hunter2-hunter2"


def test_credentials_make_no_other_address_and_are_not_stored(canary):
    addresses = [
        "https://one.example/v1",
        f"https://user:{SECRET}@one.example/v1",
        f"https://one.example/v1?key={SECRET}",
    ]
    for address in addresses:
        canary.check(Upstream(address), SMALL)
    assert RemoteSpace.objects.count() == 1
    RemoteSpace.objects.all().delete()
    canary.check(Upstream(f"https://user:{SECRET}@one.example/{SECRET}"), SMALL)
    stored = RemoteSpace.objects.values().get()
    assert SECRET not in str(stored)
    assert stored["host"] == "one.example"


def test_address_that_is_no_url_is_still_an_address():
    assert address_key("http://[broken") != address_key("http://[other")


def test_what_was_accepted_is_the_reference_from_then_on(canary, upstream, clock):
    assert accept(drifted(canary, upstream, clock).pk, by="eve")
    accepted = row()
    assert (accepted.state, accepted.revision, accepted.accepted_by) == ("ok", 2, "eve")
    clock.now += DAY
    assert not canary.check(upstream, SMALL).drifted
    upstream.variant = ""
    clock.now += DAY
    assert canary.check(upstream, SMALL).drifted


def test_only_drift_is_accepted(canary, upstream):
    canary.check(upstream, SMALL)
    assert not accept(row().pk, by="eve")
    assert (row().revision, row().accepted_by) == (1, "")


def test_width_of_what_was_accepted_is_the_new_one(canary, upstream, clock):
    canary.check(upstream, SMALL)
    upstream.vectors = FakeOpenAI().embed(SMALL, TEXTS, **UNASKED).vectors[:, :8]
    clock.now += DAY
    canary.check(upstream, SMALL)
    accept(row().pk, by="eve")
    assert row().dimensions == 8
    clock.now += DAY
    assert not canary.check(upstream, SMALL).drifted


def test_check_that_is_under_way_does_not_undo_what_was_accepted(
    canary, upstream, clock
):
    pk = drifted(canary, upstream, clock).pk
    clock.now += DAY
    upstream.meanwhile = lambda: accept(pk, by="eve")
    assert canary.check(upstream, SMALL) is None
    assert (row().state, row().revision) == ("ok", 2)


def test_what_was_seen_last_is_accepted_or_nothing(
    canary, upstream, clock, monkeypatch
):
    pk = drifted(canary, upstream, clock).pk
    original = canary_module._revision_elsewhere

    def check_meanwhile(*args):
        monkeypatch.setattr(canary_module, "_revision_elsewhere", original)
        clock.now += DAY
        upstream.variant = "a third model: "
        canary.check(upstream, SMALL)
        return original(*args)

    monkeypatch.setattr(canary_module, "_revision_elsewhere", check_meanwhile)
    assert not accept(pk, by="eve")
    assert (row().state, row().revision) == ("drifted", 1)


def test_revisions_of_two_models_have_different_numbers(canary, upstream, clock):
    accept(drifted(canary, upstream, clock).pk, by="eve")
    accept(drifted(canary, upstream, clock, model=ADA).pk, by="eve")
    assert row(model=SMALL.name).revision == 2
    assert row(model=ADA.name).revision == 3


def test_same_new_model_at_two_addresses_is_one_revision(canary, upstream, clock):
    other = Upstream("https://two.example/v1")
    canary.check(other, SMALL)
    accept(drifted(canary, upstream, clock).pk, by="eve")
    other.variant = upstream.variant
    assert canary.check(other, SMALL).drifted
    accept(row(host="two.example").pk, by="eve")
    assert {row.revision for row in RemoteSpace.objects.all()} == {2}


def test_prompt_that_an_operator_sets_is_no_drift(canary, upstream, clock):
    canary.check(upstream, SMALL)
    clock.now += DAY
    prompted = replace(SMALL, query_prompt="query: ", document_prompt="text: ")
    assert not canary.check(upstream, prompted).drifted


def test_names_that_users_invent_do_not_fill_the_table(canary, upstream, monkeypatch):
    monkeypatch.setattr(canary_module, "MAX_ROWS_OF_A_PROVIDER", 1)
    canary.check(upstream, SMALL)
    assert canary.check(upstream, ADA) is None
    assert canary.check(upstream, ADA, urgent=True).known
    assert len(upstream.calls) == 2


@pytest.fixture
def watched(settings, fakes):
    settings.EMBEDDINGS_CANARY = True
    seed_registry(allowed_providers=[], allowed_models=[])


def space_of(provider, name):
    reader.cache_clear()
    spec = registry().resolve(provider, name)
    assert spec is not None
    return spec.vector_space, spec.revision, spec.drifted


def test_accepted_revision_is_another_space(watched, fakes, canary, clock):
    openai = fakes["openai"]
    was = ("openai/text-embedding-3-small", "", False)
    canary.check(openai, SMALL)
    assert space_of(openai, SMALL.name) == was
    pk = drifted(canary, openai, clock).pk
    assert space_of(openai, SMALL.name) == (*was[:2], True)
    accept(pk, by="eve")
    assert space_of(openai, SMALL.name) == (f"{was[0]}#2", "#2", False)
    assert space_of(openai, ADA.name)[0] == "openai/text-embedding-ada-002"


def test_what_was_accepted_holds_while_the_canary_is_off(
    watched, fakes, canary, clock, settings
):
    accept(drifted(canary, fakes["openai"], clock).pk, by="eve")
    fakes["openai"].variant += "and yet another: "
    clock.now += DAY
    assert canary.check(fakes["openai"], SMALL).drifted
    settings.EMBEDDINGS_CANARY = False
    space = ("openai/text-embedding-3-small#2", "#2", False)
    assert space_of(fakes["openai"], SMALL.name) == space


class LocalApi(LocalApiProvider):
    """Answers without a server."""

    def embed(self, model, texts, **asked):
        fake = FakeOpenAI()
        fake.variant = self.base_url
        return fake.embed(SMALL, texts, **asked)


def test_model_that_nobody_listed_has_its_accepted_revision(watched, canary):
    canary.check(LocalApi({"base_url": "http://one.example"}), ADA)
    provider = LocalApi({"base_url": "http://two.example"})
    canary.check(provider, ADA)
    assert space_of(provider, ADA.name)[2]
    accept(row(host="two.example").pk, by="eve")
    assert space_of(provider, ADA.name)[:2] == (f"local_api/{ADA.name}#2", "#2")


def test_address_that_was_never_checked_has_the_revision_of_the_last_one(
    watched, canary, clock
):
    canary.check(LocalApi({"base_url": "http://one.example"}), ADA)
    clock.now += SECOND
    provider = LocalApi({"base_url": "http://two.example"})
    canary.check(provider, ADA)
    accept(row(host="two.example").pk, by="eve")
    moved = LocalApi({"base_url": "http://three.example"})
    assert space_of(moved, ADA.name)[:2] == (f"local_api/{ADA.name}#2", "#2")
    back = LocalApi({"base_url": "http://one.example"})
    assert space_of(back, ADA.name)[:2] == (f"local_api/{ADA.name}", "")
