"""What `embed` says to the providers it asks, and how it shares out a request's time among them."""

import time
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from embeddings.services import embed as embed_module
from embeddings.services.embed import SHARE_OF_TIME_LEFT, embed
from embeddings.services.errors import (
    InputTooLong,
    InvalidRequest,
    ServiceUnavailable,
)
from embeddings.services.types import EmbeddingRequest
from providers import registry as registry_module
from providers.base import Embedded, ModelSpec
from providers.exceptions import (
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderTimeout,
    ProviderUnavailable,
)
from providers.models import Breaker
from tests.fakes import MINILM, FakeOpenAI, FakeProvider

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
    assert isinstance(openai, FakeOpenAI)
    openai.problem = None
    return SimpleNamespace(openai=openai, cohere=cohere)


def ask(*inputs, model=SMALL, **fields):
    return embed(EmbeddingRequest(inputs=inputs or ["a"], model=model, **fields))


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


def test_failures_are_named_in_the_order_in_which_providers_were_asked(remote):
    remote.openai.fault = ProviderMisconfigured("no key.")
    remote.cohere.fault = ProviderUnavailable("down.")
    with pytest.raises(ServiceUnavailable) as refused:
        ask()
    assert [
        (failure.target.provider.name, failure.reason)
        for failure in refused.value.failures
    ] == [("openai", "not_configured"), ("cohere", "unavailable")]


def test_own_answer_is_no_fallback_and_another_s_names_whom_it_replaces(remote):
    assert ask().fallback_from is None
    remote.openai.fault = ProviderUnavailable("down.")
    result = ask("b")
    assert (result.fallback_from, result.target.provider.name) == ("openai", "cohere")


def test_failures_count_against_the_provider_that_failed(remote):
    remote.openai.fault = ProviderUnavailable("down.")
    ask()
    [row] = Breaker.objects.all()
    assert (row.provider, row.failure_count) == ("openai", 1)


def test_answer_of_a_fallback_is_counted_and_one_s_own_is_not(remote):
    def counted():
        labels = {"from_provider": "openai", "to_provider": "cohere"}
        return REGISTRY.get_sample_value("embedding_fallbacks_total", labels) or 0.0

    before = counted()
    ask()
    assert counted() == before
    remote.openai.fault = ProviderUnavailable("down.")
    ask("b")
    assert counted() == before + 1


@pytest.fixture
def stating(remote, monkeypatch):
    """OpenAI with a token count of its own: a hundred for each text that it reads."""
    original = remote.openai.embed

    def embed_and_state(model, texts, **said):
        answer = original(model, texts, **said)
        return Embedded(vectors=answer.vectors, prompt_tokens=100 * len(texts))

    monkeypatch.setattr(remote.openai, "embed", embed_and_state)


def test_provider_s_own_count_is_given_where_it_read_all_texts(stating):
    result = ask("a b", "c")
    assert (result.prompt_tokens, result.computed_tokens) == (200, 200)


def test_tokens_are_counted_here_where_the_cache_answered_a_part(stating):
    ask("a b")
    result = ask("a b", "c d e")
    assert (result.prompt_tokens, result.computed_tokens) == (5, 100)
    result = ask("a b")
    assert (result.prompt_tokens, result.computed_tokens) == (2, 0)


def test_share_of_tokens_that_were_computed_is_rounded_up(remote):
    ask("a b")
    result = ask("a b", "c d e")
    assert (result.prompt_tokens, result.computed_tokens) == (5, 3)


def test_texts_that_were_not_computed_are_the_cache_s_hits(remote):
    ask("a")
    assert [ask("a", "b", "c", "b").cache_hits, ask("a", "c").cache_hits] == [2, 2]


def test_text_of_as_many_tokens_as_the_model_takes_is_taken(remote):
    assert ask(" ".join(["word"] * 50)).prompt_tokens == 50
    with pytest.raises(InputTooLong) as refused:
        ask(" ".join(["word"] * 50), " ".join(["word"] * 51))
    assert refused.value.details == [{"index": 1, "tokens": 51}]


def test_each_text_that_is_cut_is_counted_and_keeps_its_own_beginning(remote):
    texts = [" ".join([word] * 60) for word in ("one", "two")]
    result = ask("short", *texts, truncate=True)
    assert result.truncated == 2
    cut = [" ".join([word] * 50) for word in ("one", "two")]
    assert remote.openai.calls == [["short", *cut]]


def test_cut_text_is_cached_as_what_was_embedded(remote):
    first = ask(" ".join(["word"] * 60), truncate=True)
    second = ask(" ".join(["word"] * 50))
    assert len(remote.openai.calls) == 1
    assert first.prompt_tokens == second.prompt_tokens == 50


def test_tokens_that_decode_to_blank_text_are_refused(remote):
    with pytest.raises(InvalidRequest, match=r"input\[1\] decodes to blank"):
        ask([15339], [220])
