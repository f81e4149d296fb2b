"""What every provider promises, whatever is behind it."""

import os
import time
import traceback
from dataclasses import replace

import numpy as np
import pytest

from providers.base import Provider
from providers.exceptions import (
    ProviderDenied,
    ProviderMalformed,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderThrottled,
    ProviderTimeout,
    ProviderUnavailable,
)
from tests.contract.cases import REMOTE_CASES
from tests.upstreams import Fault, OpenAIUpstream, tokens_in, vectors_for

DEADLINE_SECONDS = 0.2
SLACK_SECONDS = 2.0

FAULTS = {
    Fault.UNAUTHORIZED: ProviderDenied,
    Fault.FORBIDDEN: ProviderDenied,
    Fault.NO_SUCH_MODEL: ProviderRejected,
    Fault.THROTTLED: ProviderThrottled,
    Fault.THROTTLED_SECONDS: ProviderThrottled,
    Fault.THROTTLED_DATE: ProviderThrottled,
    Fault.SERVER_ERROR: ProviderUnavailable,
    Fault.OVERLOADED: ProviderUnavailable,
    Fault.RESET: ProviderUnavailable,
    Fault.CUT: ProviderUnavailable,
    Fault.TRUNCATED: ProviderMalformed,
    Fault.HTML: ProviderMalformed,
    Fault.EMPTY: ProviderMalformed,
    Fault.WRONG_COUNT: ProviderMalformed,
    Fault.NAN: ProviderMalformed,
    Fault.INFINITE: ProviderMalformed,
    Fault.OVERFLOW: ProviderMalformed,
    Fault.STRINGS: ProviderMalformed,
    Fault.BOOLEANS: ProviderMalformed,
    Fault.WRONG_DIMENSIONS: ProviderMalformed,
    Fault.DUPLICATE: ProviderMalformed,
    Fault.REDIRECT: ProviderMalformed,
    Fault.HUGE: ProviderMalformed,
    Fault.HUGE_DECLARED: ProviderMalformed,
}
OUTLASTING = (Fault.SLOW, Fault.HANG, Fault.DRIP, Fault.DRIP_HEADERS)


def texts_of(count):
    return [f"text number {n}" for n in range(count)]


def cases(applies):
    """Run a test against those cases only to which it applies."""
    chosen = [case for case in REMOTE_CASES if applies(case)]
    return pytest.mark.parametrize("case", chosen, indirect=True, ids=lambda c: c.id)


def can_be_seen(case, fault):
    if fault is Fault.DUPLICATE:
        return case.upstream.indexed
    return fault is not Fault.WRONG_DIMENSIONS or case.knows_dimensions


def test_every_fault_has_its_exception():
    assert set(Fault) == {*FAULTS, *OUTLASTING, Fault.SHUFFLED, Fault.MARKED}


def test_provider_derives_from_the_contract(case, provider):
    assert isinstance(provider, Provider)
    assert provider.name == case.provider.name
    assert provider.configuration_problem() is None


@pytest.mark.parametrize("count", [1, 97, 130, 300])
def test_vectors_come_in_input_order(case, upstream, embed, count):
    texts = texts_of(count)

    embedded = embed(texts)

    assert embedded.vectors.dtype == np.float32
    np.testing.assert_array_equal(embedded.vectors, vectors_for(texts, case.dimensions))
    assert len(upstream.calls) == -(-count // case.max_items)


def test_same_text_twice_gives_the_same_vector_twice(embed):
    vectors = embed(["same", "other", "same"]).vectors

    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_text_of_any_script_survives_the_wire(case, embed):
    texts = ["Grüße, 世界 🌍", 'quote " and \\ backslash', "<|endoftext|>", "a\nb\tc"]

    vectors = embed(texts).vectors

    np.testing.assert_array_equal(vectors, vectors_for(texts, case.dimensions))


def test_prompt_of_its_kind_is_put_before_each_text(case, provider, embed):
    model = replace(
        provider.resolve(case.model), query_prompt="q: ", document_prompt="d: "
    )
    texts = texts_of(3)

    for input_type, prompt in (("query", "q: "), ("document", "d: ")):
        vectors = provider.embed(
            model, texts, dimensions=None, input_type=input_type, timeout_seconds=10.0
        ).vectors

        expected = embed([prompt + text for text in texts], input_type=input_type)
        np.testing.assert_array_equal(vectors, expected.vectors)


def test_no_texts_make_no_call(case, upstream, embed):
    embedded = embed([])

    assert len(embedded.vectors) == 0
    assert embedded.prompt_tokens == 0
    assert upstream.calls == []


@cases(lambda case: case.smaller is not None)
def test_native_dimensions_are_asked_of_the_upstream(case, embed, provider):
    model, dimensions = case.smaller
    assert dimensions in provider.resolve(model).native_dimensions

    embedded = embed(["a text"], model=model, dimensions=dimensions)

    np.testing.assert_array_equal(embedded.vectors, vectors_for(["a text"], dimensions))


@pytest.mark.parametrize("input_type", ["query", "document"])
def test_input_type_reaches_the_upstream(case, embed, input_type):
    models = {case.model, case.smaller[0]} if case.smaller else {case.model}
    for model in models:
        vectors = embed(["a text"], model=model, input_type=input_type).vectors

        seen = input_type if case.input_types else "document"
        expected = vectors_for(["a text"], vectors.shape[1], seen)
        np.testing.assert_array_equal(vectors, expected)


def test_usage_is_summed_over_the_parts(embed):
    texts = texts_of(130)

    assert embed(texts).prompt_tokens == sum(map(tokens_in, texts))


@cases(lambda case: case.upstream.indexed)
def test_shuffled_answer_is_put_in_order(case, upstream, embed):
    upstream.fault = Fault.SHUFFLED
    texts = texts_of(5)

    vectors = embed(texts).vectors

    np.testing.assert_array_equal(vectors, vectors_for(texts, case.dimensions))


def test_byte_order_mark_before_an_answer_is_skipped(case, upstream, embed):
    upstream.fault = Fault.MARKED
    texts = texts_of(2)

    vectors = embed(texts).vectors

    np.testing.assert_array_equal(vectors, vectors_for(texts, case.dimensions))


@pytest.mark.parametrize(
    ("case", "fault"),
    [(c, f) for c in REMOTE_CASES for f in FAULTS if can_be_seen(c, f)],
    indirect=["case"],
    ids=lambda value: getattr(value, "id", None) or value.name.lower(),
)
def test_fault_raises_its_exception(case, upstream, embed, fault, caplog, capfd):
    upstream.fault = fault
    caplog.set_level("DEBUG")

    with OpenAIUpstream() as elsewhere:
        upstream.redirect_to = f"{elsewhere.base_url}/embeddings"
        with pytest.raises(FAULTS[fault]) as caught:
            embed(texts_of(2))

    assert elsewhere.calls == []
    expect_no_leak(upstream, caught.value, caplog, capfd)


@pytest.mark.parametrize("fault", OUTLASTING, ids=lambda fault: fault.name.lower())
def test_deadline_is_not_outlasted(case, upstream, embed, fault, caplog, capfd):
    embed(["a text"])  # what takes its time once: imports, the first connection
    upstream.calls.clear()
    upstream.fault = fault
    upstream.slow_seconds = 30
    started = time.monotonic()

    with pytest.raises(ProviderTimeout) as caught:
        embed(texts_of(2), timeout_seconds=DEADLINE_SECONDS)

    assert time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS
    assert len(upstream.calls) == 1
    expect_no_leak(upstream, caught.value, caplog, capfd)


def test_slow_answer_within_the_deadline_counts(case, upstream, embed):
    upstream.fault = Fault.SLOW
    upstream.slow_seconds = 0.1

    assert embed(["a text"]).vectors.shape == (1, case.dimensions)


@pytest.mark.parametrize(
    "fault", [Fault.SERVER_ERROR, Fault.OVERLOADED, Fault.THROTTLED, Fault.RESET]
)
def test_passing_fault_is_retried(case, upstream, pauses, embed, fault):
    upstream.fault = fault
    upstream.fault_count = 2

    assert embed(["a text"]).vectors.shape == (1, case.dimensions)
    assert len(upstream.calls) == 3
    assert len(pauses) == 2


def test_lasting_fault_is_tried_three_times(upstream, embed):
    upstream.fault = Fault.OVERLOADED

    with pytest.raises(ProviderUnavailable):
        embed(["a text"])

    assert len(upstream.calls) == 3


def test_refused_key_is_not_retried(upstream, embed):
    upstream.fault = Fault.UNAUTHORIZED

    with pytest.raises(ProviderDenied):
        embed(["a text"])

    assert len(upstream.calls) == 1


def test_asked_pause_is_kept(upstream, pauses, embed):
    upstream.fault = Fault.THROTTLED_SECONDS
    upstream.fault_count = 1
    upstream.retry_after_seconds = 3

    embed(["a text"])

    assert 3 <= pauses[0] < 4


def test_pause_beyond_the_deadline_is_not_begun(upstream, pauses, embed):
    upstream.fault = Fault.THROTTLED_SECONDS
    upstream.retry_after_seconds = 60

    with pytest.raises(ProviderThrottled) as caught:
        embed(["a text"], timeout_seconds=5)

    assert caught.value.retry_after_seconds == 60
    assert pauses == []


@cases(lambda case: case.max_items < 300)
def test_fault_in_one_part_fails_the_whole(case, upstream, embed):
    upstream.fault = Fault.FORBIDDEN
    upstream.fault_count = 1

    with pytest.raises(ProviderDenied):
        embed(texts_of(300))


def test_wrong_key_is_denied(case):
    with (
        case.upstream() as upstream,
        case.open(upstream, api_key="sk-wrong-1234567890") as provider,
        pytest.raises(ProviderDenied) as caught,
    ):
        provider.embed(
            provider.resolve(case.model),
            ["a text"],
            dimensions=None,
            input_type="document",
            timeout_seconds=5,
        )
    assert "sk-wrong" not in everything_said_by(caught.value)


def test_absent_key_or_address_makes_no_call(case):
    absent = {"api_key": None} if case.provider.key_required else {"base_url": None}
    with case.upstream() as upstream, case.open(upstream, **absent) as provider:
        assert provider.configuration_problem()
        with pytest.raises(ProviderMisconfigured, match=r"^[A-Z_]+ is not set$"):
            provider.embed(
                provider.resolve(case.model),
                ["a text"],
                dimensions=None,
                input_type="document",
                timeout_seconds=5,
            )
        assert upstream.calls == []


def test_unreachable_upstream_is_unavailable(case):
    with case.upstream() as upstream:
        pass
    with case.open(upstream) as provider, pytest.raises(ProviderUnavailable) as caught:
        provider.embed(
            provider.resolve(case.model),
            ["a text"],
            dimensions=None,
            input_type="document",
            timeout_seconds=5,
        )
    assert upstream.address not in everything_said_by(caught.value)


def test_key_travels_in_one_header_only(upstream, embed):
    embed(["a text"])

    (call,) = upstream.calls
    carriers = [
        name for name, value in call.headers.items() if upstream.api_key in value
    ]
    assert carriers in (["authorization"], ["x-goog-api-key"], ["api-key"])
    assert upstream.api_key not in call.path + repr(call.body)


def test_warm_up_reaches_the_upstream(case, provider, upstream):
    provider.warm_up(provider.resolve(case.model), timeout_seconds=5)

    assert len(upstream.calls) == 1


@cases(lambda case: case is REMOTE_CASES[0])  # the client is the same for all
def test_forked_child_opens_its_own_connections(case, provider, embed):
    embed(["before"])
    before = provider._http._pool()

    child = os.fork()
    if child == 0:
        os._exit(0 if provider._http._pool() is not before else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert provider._http._pool() is before


def everything_said_by(error):
    chain = traceback.TracebackException.from_exception(error, capture_locals=False)
    said = [*chain.format(), str(error), repr(error), repr(vars(error))]
    while error is not None:
        said += [repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(said)


def expect_no_leak(upstream, error, caplog, capfd):
    captured = capfd.readouterr()
    said = everything_said_by(error) + caplog.text + captured.out + captured.err
    for secret in (upstream.api_key, upstream.address, upstream.address[7:], "\x07"):
        assert secret not in said
    assert "text number" not in said
