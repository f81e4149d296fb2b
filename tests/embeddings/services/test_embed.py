"""What `embed` says to the providers it asks, and how it shares out a request's time among them."""

import time
from types import SimpleNamespace

import pytest

from embeddings.services import embed as embed_module
from embeddings.services.embed import SHARE_OF_TIME_LEFT, embed
from embeddings.services.errors import ServiceUnavailable
from embeddings.services.types import EmbeddingRequest
from providers import registry as registry_module
from providers.base import ModelSpec
from providers.exceptions import (
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderTimeout,
    ProviderUnavailable,
)
from tests.fakes import MINILM, FakeProvider

SMALL = "text-embedding-3-small"
LIMIT_SECONDS = 40.0


class FakeCohere(FakeProvider):
    """A second remote provider, whose fallback model no other provider has."""

    name = "cohere"
    specs = (
        ModelSpec(
            name="embed-v4.0", dimensions=16, max_tokens=50, vector_space="cohere/4"
        ),
    )


@pytest.fixture
def remote(monkeypatch, fakes, configure):
    """Two remote providers, the second being the first one's fallback."""
    monkeypatch.setitem(
        registry_module.BUILT_IN,
        "cohere",
        "tests.embeddings.services.test_embed:FakeCohere",
    )
    registry_module.registry.cache_clear()
    registry = registry_module.registry()
    configure(
        request_timeout_seconds=LIMIT_SECONDS,
        fallback_chain={"openai": ("cohere",)},
        fallback_models={SMALL: "embed-v4.0"},
    )
    openai, cohere = registry.get("openai"), registry.get("cohere")
    openai.problem = None
    return SimpleNamespace(openai=openai, cohere=cohere)


def ask(text="a", model=SMALL, **fields):
    return embed(EmbeddingRequest(inputs=[text], model=model, **fields))


@pytest.fixture
def clock(monkeypatch):
    """The clock by which a request's time runs out; it stands still until it is turned."""
    clock = SimpleNamespace(now=100.0, perf_counter=time.perf_counter)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(embed_module, "time", clock)
    return clock


def test_local_work_is_not_cut_short_by_what_remote_providers_are_allowed(
    fakes, configure
):
    configure(request_timeout_seconds=LIMIT_SECONDS, engine_timeout_seconds=600.0)
    ask(model=f"onnx:{MINILM}")
    assert [asked.timeout_seconds for asked in fakes["onnx"].asked] == [600.0]


def test_provider_that_hangs_leaves_a_tenth_of_the_time_for_its_remote_fallback(
    remote, clock, monkeypatch
):
    given = []

    def hang(*args, timeout_seconds, **kwargs):
        given.append(timeout_seconds)
        clock.now += timeout_seconds
        raise ProviderTimeout("no answer.")

    monkeypatch.setattr(remote.openai, "embed", hang)
    assert ask().fallback_from == "openai"
    given += [asked.timeout_seconds for asked in remote.cohere.asked]
    tenth = LIMIT_SECONDS / 10
    assert given == pytest.approx([9 * tenth, tenth * SHARE_OF_TIME_LEFT])


@pytest.mark.parametrize("input_type", ["query", "document"])
def test_provider_is_asked_for_the_kind_of_text_that_was_named(remote, input_type):
    ask(input_type=input_type)
    assert [asked.input_type for asked in remote.openai.asked] == [input_type]


@pytest.mark.parametrize(("asked_for", "passed_on"), [(4, 4), (20, None), (None, None)])
def test_provider_is_asked_only_for_sizes_that_its_model_has(
    remote, asked_for, passed_on
):
    ask(dimensions=asked_for)
    assert [asked.dimensions for asked in remote.openai.asked] == [passed_on]


@pytest.mark.parametrize("cached", [True, False])
def test_request_that_leaves_the_cache_to_others_is_computed_each_time(remote, cached):
    for _ in range(2):
        ask(cached=cached)
    assert len(remote.openai.asked) == (1 if cached else 2)
    ask(cached=True)
    assert len(remote.openai.asked) == (1 if cached else 3)


def test_soonest_time_that_a_provider_named_is_when_to_ask_again(remote):
    remote.openai.fault = ProviderThrottled("slow down.", retry_after_seconds=90)
    remote.cohere.fault = ProviderThrottled("slow down.", retry_after_seconds=20)
    with pytest.raises(ServiceUnavailable) as refused:
        ask()
    assert refused.value.retry_after_seconds == 20


def test_time_to_ask_again_is_never_nothing(remote):
    remote.openai.fault = ProviderThrottled("slow down.", retry_after_seconds=0)
    remote.cohere.fault = ProviderUnavailable("down.")
    with pytest.raises(ServiceUnavailable) as refused:
        ask()
    assert refused.value.retry_after_seconds == 1


def test_failures_are_told_in_the_order_in_which_providers_were_asked(remote):
    remote.openai.fault = ProviderMisconfigured("no key.")
    remote.cohere.fault = ProviderUnavailable("down.")
    with pytest.raises(ServiceUnavailable) as refused:
        ask()
    assert [
        (failure.target.provider, failure.reason) for failure in refused.value.failures
    ] == [("openai", "not_configured"), ("cohere", "unavailable")]


def test_own_answer_is_no_fallback_and_another_s_names_whom_it_stands_in_for(remote):
    assert ask().fallback_from is None
    remote.openai.fault = ProviderUnavailable("down.")
    result = ask("b")
    assert (result.fallback_from, result.target.provider) == ("openai", "cohere")
