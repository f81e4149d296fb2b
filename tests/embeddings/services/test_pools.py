"""Upstreams that share a vector space, behind real HTTP: who answers, under whose name, and who may not."""

import time
from contextlib import ExitStack

import numpy as np
import pytest

from embeddings.models import LoggedRequest
from embeddings.services.embed import embed
from embeddings.services.errors import ServiceUnavailable
from embeddings.services.pools import Pools, pools
from embeddings.services.space_watch import space_watch
from embeddings.services.types import EmbeddingRequest, Target
from embeddings.services.usage.ledger import usage
from providers import breaker
from providers.built_in import built_in
from providers.canary import TEXTS, accept, leave_pools
from providers.models import Breaker, ProviderSetting, RemoteSpace, Revision
from providers.operator_settings import reader
from providers.registry import BUILT_IN, registry
from providers.seeding import seed_registry
from tests.upstreams import Fault, OpenAIUpstream, vectors_for

URL = "/api/v1/embeddings"
SMALL = "text-embedding-3-small"
MEMBER = "X-Embeddings-Pool-Member"


class Upstream(OpenAIUpstream):
    """OpenAI behind which stands any model; `asked`: what came but for the canary's texts."""

    model_behind = "document"

    def answer(self, path, headers, body):
        texts, _, dimensions, context = super().answer(path, headers, body)
        return texts, self.model_behind, dimensions, context

    @property
    def asked(self):
        calls = [call.body["input"] for call in self.calls]
        return [texts for texts in calls if texts != list(TEXTS)]


@pytest.fixture
def upstreams(fakes, settings, monkeypatch):
    """The rows `eu`, and `us` and `asia`, which are in its pool, all of kind openai."""
    settings.EMBEDDINGS_CANARY = True
    (place,) = (one.place for one in built_in() if one.name == "openai")
    monkeypatch.setitem(BUILT_IN, "openai", place)
    for module in ("space_watch", "pools"):
        monkeypatch.setattr(
            f"embeddings.services.{module}.start_thread", lambda work: work()
        )
    registry.cache_clear()
    pools.cache_clear()
    seed_registry(allowed_providers=[], allowed_models=[])
    with ExitStack() as stack:
        rows = {name: Upstream() for name in ("eu", "us", "asia")}
        for name, upstream in rows.items():
            stack.enter_context(upstream)
            key = {"api_key": upstream.api_key, "timeout_seconds": 5}
            settings.PROVIDERS = {**settings.PROVIDERS, name: key}
            ProviderSetting.objects.create(
                name=name,
                kind="openai",
                base_url=upstream.base_url,
                pool="" if name == "eu" else "eu",
            )
        registry.cache_clear()
        reader.cache_clear()
        providers = [registry().get(name) for name in rows]
        yield rows
        for provider in providers:
            getattr(provider, "close", int)()


class Clock:
    """Ten seconds pass with each answer, so that what is due is looked at, unless a test stops it."""

    def __init__(self):
        self.ahead = 0.0
        self.step = 10.0

    def __call__(self):
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Pools, "timer", staticmethod(clock))
    return clock


@pytest.fixture
def ask(post, clock):
    numbers = iter(range(10_000))

    def ask(text=None, model=f"eu:{SMALL}", **fields):
        text = text or f"text {next(numbers)}"
        answer = post({"input": text, "model": model} | fields)
        clock.ahead += clock.step
        reader.cache_clear()
        return answer

    return ask


@pytest.fixture
def admitted(ask, upstreams):
    """A pool whose members have all been checked: the pool's own provider first, then the others."""
    for _ in range(3):
        assert ask().status_code == 200
    for upstream in upstreams.values():
        upstream.calls.clear()
    return upstreams


def who(answers):
    return {answer.headers.get(MEMBER) for answer in answers}


def answered(ask, count=6):
    answers = [ask() for _ in range(count)]
    assert {answer.status_code for answer in answers} == {200}
    return who(answers)


def test_nobody_serves_before_it_was_compared(ask, upstreams):
    assert answered(ask, 1) == {"eu"}
    assert upstreams["us"].asked == upstreams["asia"].asked == []


def test_members_answer_under_the_pool_s_name_and_space(ask, admitted):
    answers = [ask() for _ in range(6)]
    assert who(answers) == {"eu", "us", "asia"}
    for answer in answers:
        assert answer.json()["model"] == f"eu:{SMALL}"
        assert answer.headers["X-Embeddings-Provider"] == "eu"
        assert answer.headers["X-Embeddings-Vector-Space"] == f"eu:{SMALL}"
        assert "X-Embeddings-Drift" not in answer.headers
    vector = ask("whose").json()["data"][0]["embedding"]
    np.testing.assert_allclose(vector, vectors_for(["whose"], 1536)[0], atol=1e-6)


def test_cache_is_the_pool_s(ask, admitted):
    first, *others = [ask("the same") for _ in range(3)]
    assert who([first]) <= {"eu", "us", "asia"}
    assert who(others) == {None}
    assert sum(len(upstream.asked) for upstream in admitted.values()) == 1


def test_record_of_a_request_says_who_answered(ask, admitted):
    answer = ask()
    usage().flush()
    row = LoggedRequest.objects.first()
    assert row is not None
    assert (row.provider, row.model) == ("eu", SMALL)
    assert row.member == answer.headers[MEMBER]


def test_member_with_another_model_is_never_admitted(ask, upstreams):
    upstreams["us"].model_behind = "another model"
    assert answered(ask) == {"eu", "asia"}
    assert upstreams["us"].asked == []
    row = RemoteSpace.objects.get(provider="us", pool="eu")
    assert row.state == "drifted"
    assert row.cosine is not None
    assert row.cosine < 0.999


def test_member_of_another_width_is_never_admitted(ask, upstreams):
    upstreams["us"].models = {SMALL: (1024, True)}
    assert answered(ask) == {"eu", "asia"}
    assert upstreams["us"].asked == []


def test_member_that_cannot_be_checked_is_not_admitted(ask, upstreams):
    upstreams["us"].fault = Fault.UNAUTHORIZED
    assert answered(ask) == {"eu", "asia"}
    assert upstreams["us"].asked == []


def test_member_serves_once_its_model_is_the_right_one(ask, upstreams):
    upstreams["us"].model_behind = "another model"
    assert answered(ask) == {"eu", "asia"}
    upstreams["us"].model_behind = "document"
    RemoteSpace.objects.update(checked_at="2020-01-01T00:00Z")
    pools.cache_clear()
    assert answered(ask) == {"eu", "us", "asia"}


def test_member_whose_model_is_exchanged_leaves(ask, admitted):
    admitted["us"].model_behind = "another model"
    RemoteSpace.objects.update(checked_at="2020-01-01T00:00Z")
    pools.cache_clear()
    ask()
    admitted["us"].calls.clear()
    assert answered(ask) == {"eu", "asia"}
    assert admitted["us"].asked == []


def test_vectors_of_an_exchanged_member_leave_the_cache(ask, admitted):
    def vector():
        return ask("kept").json()["data"][0]["embedding"]

    good = vector()
    admitted["us"].model_behind = "another model"
    RemoteSpace.objects.update(checked_at="2020-01-01T00:00Z")
    pools.cache_clear()
    ask()
    before = sum(len(upstream.asked) for upstream in admitted.values())
    assert vector() == good
    assert sum(len(upstream.asked) for upstream in admitted.values()) == before + 1


@pytest.mark.parametrize(
    "fault", [Fault.SERVER_ERROR, Fault.RESET, Fault.THROTTLED, Fault.UNAUTHORIZED]
)
@pytest.mark.parametrize("name", ["eu", "us"])
def test_request_moves_to_another_member(ask, admitted, fault, name):
    admitted[name].fault = fault
    assert answered(ask) == {"eu", "us", "asia"} - {name}


def test_request_that_the_upstream_refuses_is_not_tried_elsewhere(ask, admitted):
    for upstream in admitted.values():
        upstream.fault = Fault.NO_SUCH_MODEL
    assert ask().status_code == 404
    assert sum(len(upstream.asked) for upstream in admitted.values()) == 1


def test_frozen_member_costs_a_part_of_the_time_and_is_left_alone(
    ask, admitted, configure, clock
):
    configure(request_timeout_seconds=1.0)
    clock.step = 0.0
    pools()._start = lambda check: None
    admitted["us"].fault = Fault.HANG
    assert answered(ask) == {"eu", "asia"}
    assert len(admitted["us"].asked) == 1


def test_failing_member_is_ejected_by_its_own_breaker(ask, admitted):
    admitted["us"].fault = Fault.SERVER_ERROR
    assert answered(ask, 18) == {"eu", "asia"}
    assert Breaker.objects.get(provider="us").state == "open"
    assert not Breaker.objects.filter(provider="eu").exclude(state="closed").exists()
    # Back in service: by the canary as the probe, and no request is one.
    admitted["us"].fault = None
    admitted["us"].calls.clear()
    Breaker.objects.filter(provider="us").update(retry_at="2020-01-01T00:00Z")
    ask()
    assert Breaker.objects.get(provider="us").state == "closed"
    assert answered(ask) == {"eu", "us", "asia"}


def test_no_request_is_the_probe_of_a_member_that_others_found_failing(ask, admitted):
    pools()._start = lambda check: None
    Breaker.objects.update_or_create(provider="us", defaults={"state": "half_open"})
    breaker._looked_at().clear()
    assert answered(ask) == {"eu", "asia"}
    assert admitted["us"].asked == []


def test_member_that_comes_back_with_another_model_stays_out(ask, admitted):
    admitted["us"].fault, admitted["us"].fault_count = Fault.RESET, 1
    admitted["us"].model_behind = "another model"
    assert answered(ask) == {"eu", "asia"}
    assert len(admitted["us"].asked) == 1
    assert RemoteSpace.objects.get(provider="us", pool="eu").state == "drifted"


def test_pool_whose_own_provider_is_down_serves(ask, admitted):
    admitted["eu"].fault = Fault.SERVER_ERROR
    answers = [ask() for _ in range(6)]
    assert who(answers) == {"us", "asia"}
    assert "X-Embeddings-Fallback-From" not in answers[0].headers


def test_fallback_to_another_space_comes_after_all_members(ask, admitted, configure):
    configure(fallback_chain={"eu": ("us",)})
    for name in ("eu", "us", "asia"):
        admitted[name].fault = Fault.SERVER_ERROR
    admitted["us"].fault_count = 1
    answer = ask()
    assert answer.headers["X-Embeddings-Fallback-From"] == "eu"
    assert answer.headers["X-Embeddings-Provider"] == "us"
    assert all(upstream.asked for upstream in admitted.values())


def test_drifted_provider_of_a_pool_leaves_the_serving_to_its_members(ask, admitted):
    admitted["eu"].model_behind = "another model"
    eu = registry().get("eu")
    assert eu is not None
    spec = registry().resolve(eu, SMALL)
    assert spec is not None
    RemoteSpace.objects.update(checked_at="2020-01-01T00:00Z")
    space_watch().checked(eu, spec)
    reader.cache_clear()
    answers = [ask() for _ in range(6)]
    assert who(answers) == {"us", "asia"}
    assert all("X-Embeddings-Drift" not in answer.headers for answer in answers)
    for name in ("us", "asia"):
        admitted[name].fault = Fault.SERVER_ERROR
    assert ask().status_code == 503
    assert admitted["eu"].asked == []


def test_member_answers_in_its_own_right_under_its_own_name(ask, admitted):
    answer = ask(model=f"us:{SMALL}")
    assert answer.headers["X-Embeddings-Provider"] == "us"
    assert answer.headers["X-Embeddings-Vector-Space"] == f"us:{SMALL}"
    assert MEMBER not in answer.headers


def test_member_that_is_switched_off_or_deleted_is_not_called(ask, admitted):
    ProviderSetting.objects.get(name="us").delete()
    row = ProviderSetting.objects.get(name="asia")
    row.enabled = False
    row.save()
    reader.cache_clear()
    assert answered(ask) == {"eu"}


def test_member_that_left_and_comes_back_is_compared_again(ask, admitted):
    leave_pools("us")
    admitted["us"].model_behind = "another model"
    reader.cache_clear()
    assert answered(ask) == {"eu", "asia"}


def test_member_that_left_and_comes_back_the_same_serves_again(ask, admitted):
    leave_pools("us")
    reader.cache_clear()
    ask()
    assert answered(ask) == {"eu", "us", "asia"}


def test_accepted_revision_is_compared_with_the_members_again(ask, admitted):
    admitted["eu"].model_behind = "another model"
    admitted["us"].model_behind = "another model"
    eu = registry().get("eu")
    assert eu is not None
    spec = registry().resolve(eu, SMALL)
    assert spec is not None
    RemoteSpace.objects.update(checked_at="2020-01-01T00:00Z")
    space_watch().checked(eu, spec)
    assert accept(RemoteSpace.objects.get(provider="eu").pk, by="eve")
    reader.cache_clear()
    ask()
    answers = [ask() for _ in range(6)]
    assert who(answers) == {"eu", "us"}
    spaces = {answer.headers["X-Embeddings-Vector-Space"] for answer in answers}
    assert spaces == {f"eu:{SMALL}#2"}


def test_without_the_canary_the_pool_s_own_provider_serves_alone(
    ask, admitted, settings
):
    settings.EMBEDDINGS_CANARY = False
    reader.cache_clear()
    assert answered(ask) == {"eu"}


def test_size_is_asked_for_where_it_can_be(ask, admitted):
    admitted["us"].model_behind = "document"
    answers = [ask(dimensions=256) for _ in range(6)]
    assert who(answers) == {"eu", "us", "asia"}
    assert len(answers[0].json()["data"][0]["embedding"]) == 256


def test_member_is_asked_by_the_name_that_it_has_for_the_model(ask, upstreams):
    for name in ("us", "asia"):
        upstreams[name].models = {"our-small": (1536, True)}
    ProviderSetting.objects.filter(name="us").update(pool_models={SMALL: "our-small"})
    Revision.bump()
    reader.cache_clear()
    answers = [ask() for _ in range(8)]
    assert who(answers) == {"eu", "us"}
    assert {answer.json()["model"] for answer in answers} == {f"eu:{SMALL}"}
    assert {call.body["model"] for call in upstreams["us"].calls} == {"our-small"}


def stored(text):
    eu = registry().get("eu")
    assert eu is not None
    spec = registry().resolve(eu, SMALL)
    assert spec is not None
    target = Target(provider=eu, model=spec)
    result = embed(
        EmbeddingRequest(inputs=[text], target=target, stored=True, fallback="off")
    )
    reader.cache_clear()
    return result


def test_what_is_stored_is_compared_once_more(admitted):
    result = stored("a")
    calls = [call.body["input"] for call in admitted[result.member].calls]
    assert calls == [["a"], list(TEXTS)]


def test_vectors_of_a_member_exchanged_a_moment_ago_are_not_stored(admitted):
    for upstream in admitted.values():
        upstream.model_behind = "another model"
    admitted["eu"].model_behind = "document"
    members = set()
    for number in range(3):
        try:
            members.add(stored(f"new {number}").member)
        except ServiceUnavailable as error:
            assert [failure.reason for failure in error.failures] == ["unavailable"]
    assert members == {"eu"}
    assert {stored(f"later {number}").member for number in range(3)} == {"eu"}
