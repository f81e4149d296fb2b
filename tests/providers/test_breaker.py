from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from providers import breaker
from providers.base import probing
from providers.exceptions import (
    Abandoned,
    BreakerOpen,
    Overloaded,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
)
from providers.models import Breaker, BreakerChange

pytestmark = pytest.mark.django_db


class Clock:
    def __init__(self):
        self.now = timezone.now()

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("providers.breaker.timezone.now", clock)
    return clock


class Calls:
    """Count the calls that reach the provider."""

    def __init__(self):
        self.count = 0

    def __call__(self, error=None):
        with breaker.guarded("openai"):
            self.count += 1
            if error:
                raise error

    def fail(self, times=1, error=None):
        for _ in range(times):
            with pytest.raises(ProviderUnavailable):
                self(error or ProviderUnavailable("down."))


@pytest.fixture
def call(clock):
    return Calls()


def row():
    return Breaker.objects.get(provider="openai")


# The provider did not fail at the request, nor did it answer.
NOTHING_LEARNT = [
    ProviderMisconfigured("no key."),
    Overloaded("full."),
    Abandoned("the client left."),
]


def test_five_failures_in_a_row_open_it_and_nothing_is_called_any_more(call):
    call.fail(5)
    for _ in range(20):
        with pytest.raises(BreakerOpen) as caught:
            call()
    assert call.count == 5
    assert caught.value.retry_after_seconds == pytest.approx(60)
    assert row().last_error == "down."


def test_a_success_between_failures_starts_the_count_again(call):
    call.fail(4)
    call()
    call.fail(4)
    call()
    assert row().state == "closed"


@pytest.mark.parametrize("error", NOTHING_LEARNT)
def test_what_is_no_failure_of_the_provider_does_not_count(call, error):
    for _ in range(6):
        with pytest.raises(type(error)):
            call(error)
    call()
    assert not Breaker.objects.exclude(state="closed").exists()


@pytest.mark.parametrize("error", NOTHING_LEARNT)
def test_what_is_no_answer_of_the_provider_leaves_its_failures_on_the_books(
    call, error
):
    call.fail(4)
    with pytest.raises(type(error)):
        call(error)
    assert row().failure_count == 4
    call.fail(1)
    assert row().state == "open"


def test_a_refused_request_proves_that_the_provider_lives(call):
    call.fail(4)
    with pytest.raises(ProviderRejected):
        call(ProviderRejected("bad input."))
    call.fail(1)
    assert row().state == "closed"


def test_after_sixty_seconds_one_probe_at_a_time_is_let_through(call, clock):
    call.fail(5)
    clock.forward(59.9)
    with pytest.raises(BreakerOpen):
        call()
    clock.forward(0.1)
    with breaker.guarded("openai"), pytest.raises(BreakerOpen):
        call()
    assert row().state == "half_open"
    assert row().success_count == 1


def test_two_successful_probes_close_it(call, clock):
    call.fail(5)
    clock.forward(60)
    call()
    call()
    assert row().state == "closed"
    assert row().failure_count == 0


def test_one_failed_probe_opens_it_again(call, clock):
    call.fail(5)
    clock.forward(60)
    call()
    call.fail(1)
    with pytest.raises(BreakerOpen):
        call()
    clock.forward(60)
    call()
    assert row().state == "half_open"  # the success before the failure counts no more
    call()
    assert row().state == "closed"


@pytest.mark.parametrize("error", [*NOTHING_LEARNT, KeyError("bug")])
def test_probes_that_teach_nothing_let_the_next_one_through_and_close_nothing(
    call, clock, error
):
    call.fail(5)
    clock.forward(60)
    for _ in range(breaker.SUCCESSES_TO_CLOSE):
        with pytest.raises(type(error)):
            call(error)
    assert (row().state, row().success_count) == ("half_open", 0)
    call()
    assert row().success_count == 1


def test_a_probe_whose_process_died_is_forgotten(call, clock):
    call.fail(5)
    clock.forward(60)
    assert breaker._admit("openai")  # and never heard of again
    with pytest.raises(BreakerOpen):
        call()
    clock.forward(breaker.PROBE_LEASE_SECONDS)
    call()


def test_good_calls_in_a_row_ask_the_database_once(call, django_assert_num_queries):
    with django_assert_num_queries(1):
        for _ in range(5):
            call()


def test_failures_of_another_process_count_within_a_second(call, monkeypatch):
    call()
    Breaker.objects.create(provider="openai", state=Breaker.State.OPEN)
    call()
    monkeypatch.setattr(breaker, "LOOK_AGAIN_SECONDS", 0.0)
    with pytest.raises(BreakerOpen):
        call()


def test_a_late_failure_does_not_prolong_an_open_breaker(call, clock):
    with pytest.raises(ProviderUnavailable), breaker.guarded("openai"):
        call.fail(5)
        before = row().retry_at
        clock.forward(30)
        raise ProviderUnavailable("late.")
    assert row().retry_at == before


def test_reset_closes_it_at_once(call):
    call.fail(5)
    breaker.reset("openai")
    call()
    assert row().last_error == ""


def test_providers_have_breakers_of_their_own(call):
    with pytest.raises(ProviderUnavailable), breaker.guarded("cohere"):
        raise ProviderUnavailable("down.")
    call.fail(5)
    other = Breaker.objects.get(provider="cohere")
    assert (other.state, other.failure_count) == ("closed", 1)
    with breaker.guarded("cohere"):
        reached = True
    assert reached
    with pytest.raises(BreakerOpen):
        call()


def test_last_error_is_bounded(call):
    call.fail(1, ProviderUnavailable("x" * 1000))
    assert len(row().last_error) == 300


def unavailable(execute, sql, params, many, context):
    raise OperationalError("the database is away")


def test_good_answers_and_failures_pass_while_the_database_is_away(call):
    with connection.execute_wrapper(unavailable):
        call()
        call.fail(7)
    assert call.count == 8


def lock_wait():
    with connection.cursor() as cursor:
        postgres = connection.vendor == "postgresql"
        cursor.execute("SHOW lock_timeout" if postgres else "PRAGMA busy_timeout")
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)  # PostgreSQL restores it at its end
def test_the_database_s_own_lock_wait_is_restored(call):
    before = lock_wait()
    call.fail(1)
    assert lock_wait() == before


def test_a_probe_is_marked_so_that_the_provider_does_not_retry(call, clock):
    with breaker.guarded("openai"):
        assert not probing.get()
    call.fail(5)
    clock.forward(60)
    with breaker.guarded("openai"):
        assert probing.get()
    assert not probing.get()


def test_open_until_names_the_moment_and_only_while_it_is_ahead(clock, call):
    assert breaker.open_until("openai") is None
    call.fail(5)
    assert breaker.open_until("openai") == clock.now + timedelta(seconds=60)
    clock.forward(60)
    assert breaker.open_until("openai") is None
    clock.forward(-3600)
    assert breaker.open_until("openai") is None


def test_clock_set_back_keeps_no_breaker_open(call, clock):
    call.fail(breaker.FAILURES_TO_OPEN)
    clock.forward(-3600)
    call()
    assert call.count == breaker.FAILURES_TO_OPEN + 1


def test_clock_set_back_holds_no_probe(call, clock):
    call.fail(breaker.FAILURES_TO_OPEN)
    clock.forward(breaker.OPEN_SECONDS)
    lease = clock.now + timedelta(seconds=breaker.PROBE_LEASE_SECONDS)
    Breaker.objects.update(state="half_open", probe_until=lease)
    with pytest.raises(BreakerOpen):
        call()
    clock.forward(-3600)
    call()


def test_breaker_says_when_it_lets_a_call_through(call, clock):
    assert breaker.retry_after("openai") is None
    call.fail(breaker.FAILURES_TO_OPEN)
    clock.forward(20)
    assert breaker.retry_after("openai") == breaker.OPEN_SECONDS - 20
    clock.forward(3600)
    assert breaker.retry_after("openai") == 1
    call()
    call()
    assert breaker.retry_after("openai") is None


def story():
    rows = BreakerChange.objects.order_by("pk")
    return [(row.from_state, row.to_state, row.reason) for row in rows]


def test_each_change_of_state_is_noted_with_its_reason(call, clock):
    call.fail(5, ProviderUnavailable("No answer from the upstream."))
    clock.forward(61)
    call.fail(1, ProviderUnavailable("Still none."))
    clock.forward(61)
    call()
    call()
    probe = ("open", "half_open", "One call is let through as a probe.")
    assert story() == [
        ("closed", "open", "No answer from the upstream."),
        probe,
        ("half_open", "open", "Still none."),
        probe,
        ("half_open", "closed", "The probes were answered."),
    ]


def test_reset_is_noted_with_who_did_it_and_only_where_it_changed_something(call):
    breaker.reset("openai", by="ada")
    call.fail(5)
    breaker.reset("openai", by="ada")
    assert story()[1:] == [("open", "closed", "Reset by ada.")]


def test_only_the_last_changes_are_kept_of_each_provider(call, clock, monkeypatch):
    monkeypatch.setattr(breaker, "KEPT_CHANGES", 3)
    BreakerChange.objects.create(
        provider="cohere", from_state="closed", to_state="open"
    )
    call.fail(5)
    for _ in range(4):
        clock.forward(61)
        call.fail()
    assert BreakerChange.objects.filter(provider="openai").count() == 3
    assert BreakerChange.objects.filter(provider="cohere").exists()


@pytest.mark.parametrize("reason", ["away", "damaged"])
def test_changes_that_cannot_be_noted_change_nothing_else(call, clock, reason):
    def broken(execute, sql, params, many, context):
        if "providers_breakerchange" not in sql:
            return execute(sql, params, many, context)
        error = OperationalError if reason == "away" else RuntimeError
        raise error("no table")

    with connection.execute_wrapper(broken):
        call.fail(5)
        with pytest.raises(BreakerOpen):
            call()
        clock.forward(61)
        call()
        call()
    assert (row().state, row().failure_count, row().success_count) == ("closed", 0, 0)
    assert not BreakerChange.objects.exists()


def test_what_a_call_would_find_is_known_without_calling(call, clock):
    assert breaker.refusal("openai") is None
    call.fail(5)
    assert breaker.refusal("openai") == "The circuit breaker of openai is open."
    clock.forward(61)
    assert breaker.refusal("openai") is None
    with breaker.guarded("openai"):
        assert breaker.refusal("openai") is not None
    assert row().state == "half_open"
    assert breaker.refusal("openai") is None
