import dataclasses

import numpy as np
import pytest
from structlog.testing import capture_logs

from providers.base import probing
from providers.exceptions import (
    ProviderMalformed,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from providers.remote import Limits
from tests.providers.remote.echo import MODEL, EchoProvider, echo, embed
from tests.upstreams import Fault, OpenAIUpstream, vectors_for

UNKNOWN_SIZE = dataclasses.replace(MODEL, dimensions=None)


@pytest.mark.parametrize("key", ["sk-\nnewline", "sk-ключ", "sk-\x00", "sk-\x7f"])
def test_key_that_no_header_carries_is_misconfigured(open_echo, upstream, key):
    provider = open_echo(api_key=key)

    with pytest.raises(ProviderMisconfigured, match="ECHO_API_KEY") as caught:
        embed(provider, ["text"])

    assert key not in str(caught.value)
    assert provider.configuration_problem()
    assert upstream.calls == []


def test_white_space_around_the_key_is_dropped(open_echo, upstream):
    embed(open_echo(api_key=f" {upstream.api_key}\n"), ["text"])

    assert len(upstream.calls) == 1


@pytest.mark.parametrize(
    "url", ["ftp://host", "host", "http://", "https://host:99999", "http://[::1", "//x"]
)
def test_bad_address_is_misconfigured(open_echo, url):
    with pytest.raises(ProviderMisconfigured, match="ECHO_BASE_URL") as caught:
        embed(open_echo(base_url=url), ["text"])

    assert url not in str(caught.value)


def test_bad_proxy_is_misconfigured(open_echo):
    provider = open_echo(proxy_url="socks5://user:secret@host")

    with pytest.raises(ProviderMisconfigured) as caught:
        embed(provider, ["text"])

    assert "secret" not in str(caught.value)


def test_slash_at_the_end_of_the_address_does_no_harm(open_echo, upstream):
    embed(open_echo(base_url=f"{upstream.base_url}/"), ["text"])

    assert upstream.calls[0].path == "/v1/embeddings"


def test_own_timeout_bounds_the_callers(open_echo, upstream):
    upstream.fault = Fault.HANG

    with pytest.raises(ProviderTimeout):
        embed(open_echo(timeout_seconds=0.2), ["text"], timeout_seconds=60)


def test_no_time_left_makes_no_call(open_echo, upstream):
    with pytest.raises(ProviderTimeout):
        embed(open_echo(), ["text"], timeout_seconds=0)

    assert upstream.calls == []


def test_pauses_double_and_are_jittered(open_echo, upstream):
    upstream.fault = Fault.SERVER_ERROR
    provider = open_echo()

    with pytest.raises(ProviderUnavailable):
        embed(provider, ["text"])

    assert provider.pauses == [0.25, 0.5]


def test_retries_can_be_turned_off(open_echo, upstream):
    upstream.fault = Fault.SERVER_ERROR

    with pytest.raises(ProviderUnavailable):
        embed(open_echo(retries=0), ["text"])

    assert len(upstream.calls) == 1


def test_retry_is_logged_without_texts_and_addresses(open_echo, upstream):
    upstream.fault = Fault.SERVER_ERROR
    upstream.fault_count = 1

    with capture_logs() as logs:
        embed(open_echo(), ["a private text"])

    assert logs == [
        {
            "event": "upstream_retry",
            "log_level": "info",
            "provider": "echo",
            "reason": "unavailable",
            "pause_seconds": 0.25,
        }
    ]


def test_rejection_carries_the_upstreams_words(open_echo, upstream):
    model = dataclasses.replace(MODEL, name="text-embedding-9")

    with pytest.raises(ProviderRejected) as caught:
        embed(open_echo(), ["text"], model=model)

    message = "echo: The model `text-embedding-9` does not exist."
    assert caught.value.message == message
    assert caught.value.status == 404
    assert len(upstream.calls) == 1


def test_rejection_hides_a_key_that_looks_like_a_word(open_echo, upstream):
    upstream.api_key = "swordfish"
    upstream.fault = Fault.NO_SUCH_MODEL

    with pytest.raises(ProviderRejected) as caught:
        embed(open_echo(), ["text"])

    assert "Stub failure for key [removed]" in caught.value.message
    assert "swordfish" not in caught.value.message


def test_rejection_without_words_names_the_status(open_echo, upstream, monkeypatch):
    monkeypatch.setattr(upstream, "error", lambda status, message: {})
    upstream.fault = Fault.NO_SUCH_MODEL

    with pytest.raises(ProviderRejected, match=r"rejected the request \(HTTP 404\)"):
        embed(open_echo(), ["text"])


def test_usage_is_unknown_if_one_part_lacks_it(open_echo, upstream, monkeypatch):
    render = upstream.render
    monkeypatch.setattr(upstream, "render", lambda *args: forgetful(render(*args)))

    assert embed(open_echo(), ["one"] * 4).prompt_tokens is None


def forgetful(payload):
    if len(payload["data"]) == 1:
        del payload["usage"]
    return payload


def test_parts_of_different_sizes_are_malformed(open_echo, upstream, monkeypatch):
    answer = upstream.answer

    def uneven(path, headers, body):
        texts, input_type, dimensions, context = answer(path, headers, body)
        return texts, input_type, dimensions - len(texts), context

    monkeypatch.setattr(upstream, "answer", uneven)

    with pytest.raises(ProviderMalformed, match="different sizes"):
        embed(open_echo(), ["one"] * 4, model=UNKNOWN_SIZE)


def test_repr_tells_no_key(open_echo, upstream):
    provider = open_echo()

    assert upstream.api_key not in repr(provider) + str(provider)


def test_all_options_may_be_absent():
    provider = EchoProvider.from_settings({})

    assert provider.configuration_problem()
    assert provider.models() == (MODEL,)


def test_a_breaker_s_probe_is_one_call(open_echo, upstream):
    upstream.fault = Fault.SERVER_ERROR
    token = probing.set(True)
    try:
        with pytest.raises(ProviderUnavailable):
            embed(open_echo(), ["text"])
    finally:
        probing.reset(token)

    assert len(upstream.calls) == 1


def test_prompts_count_where_a_request_is_split(upstream, monkeypatch):
    monkeypatch.setattr(EchoProvider, "limits", Limits(max_items=9, max_tokens=20))
    model = dataclasses.replace(MODEL, document_prompt="p" * 30)
    provider = echo(upstream)
    for spec in (MODEL, model):
        embed(provider, ["text"] * 4, model=spec)
    provider.close()

    assert len(upstream.calls) == 1 + 4


def sizes(upstream):
    return [len(call.body["input"]) for call in upstream.calls]


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(None, [3, 3, 1]), (2, [2, 2, 2, 1]), (99, [3, 3, 1])]
)
def test_operators_say_how_many_texts_a_call_has(
    upstream, open_echo, batch_size, expected
):
    embed(open_echo(batch_size=batch_size), list("abcdefg"))
    assert sorted(sizes(upstream), reverse=True) == expected


class Picky(OpenAIUpstream):
    """Takes two texts at once, and says so in words."""

    words = "batch size {} > maximum allowed batch size 2"

    def require_texts(self, texts, max_items, status=400):
        self.require(len(texts) <= 2, 413, self.words.format(len(texts)))


def test_upstream_that_takes_fewer_texts_is_asked_again_with_fewer(monkeypatch):
    monkeypatch.setattr(EchoProvider, "limits", Limits(max_items=9))
    texts = list("abcdefghi")
    with Picky() as upstream:
        provider = echo(upstream)
        vectors = embed(provider, texts).vectors
        assert sizes(upstream)[:2] == [9, 4]
        np.testing.assert_array_equal(vectors, vectors_for(texts, 1536))
        upstream.calls.clear()
        embed(provider, texts)
        assert set(sizes(upstream)) == {1, 2}
        provider.close()


def test_one_text_that_is_too_long_teaches_nothing(monkeypatch):
    monkeypatch.setattr(Picky, "words", "inputs must have less than 512 tokens")
    with Picky() as upstream:
        provider = echo(upstream)
        with pytest.raises(ProviderRejected, match="512 tokens"):
            embed(provider, ["a", "b", "c"])
        assert sizes(upstream) == [3]
        provider.close()
