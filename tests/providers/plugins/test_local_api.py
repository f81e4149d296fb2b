import pytest

from providers.exceptions import (
    ProviderDenied,
    ProviderMalformed,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
)
from providers.plugins.local_api import LocalApiProvider
from tests.upstreams import Fault

MODEL = "nomic-embed-text:v1.5"


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_address_may_end_in_v1(open_provider, compatible_upstream, embed, suffix):
    provider = open_provider(
        LocalApiProvider,
        compatible_upstream,
        base_url=compatible_upstream.address + suffix,
    )

    assert embed(provider, MODEL, ["text"]).vectors.shape == (1, 768)
    assert compatible_upstream.calls[0].path == "/v1/embeddings"


@pytest.mark.parametrize(
    ("kind", "path"), [("tei", "/embed"), ("ollama", "/api/embed")]
)
def test_native_paths_ignore_v1(
    open_provider, tei_upstream, ollama_upstream, embed, kind, path
):
    upstream = {"tei": tei_upstream, "ollama": ollama_upstream}[kind]
    provider = open_provider(
        LocalApiProvider, upstream, base_url=f"{upstream.address}/v1", kind=kind
    )

    embed(provider, MODEL, ["text"])

    assert upstream.calls[0].path == path


def test_key_is_optional(open_provider, compatible_upstream, embed):
    provider = open_provider(LocalApiProvider, compatible_upstream, api_key=None)

    embed(provider, MODEL, ["text"])

    assert provider.configuration_problem() is None
    assert "authorization" not in compatible_upstream.calls[0].headers


def test_missing_key_is_denied_where_the_server_wants_one(
    open_provider, tei_upstream, embed
):
    tei_upstream.key_required = True
    provider = open_provider(LocalApiProvider, tei_upstream, api_key=None, kind="tei")

    with pytest.raises(ProviderDenied):
        embed(provider, MODEL, ["text"])


def test_absent_address_is_misconfigured(embed):
    with pytest.raises(ProviderMisconfigured, match=r"^LOCAL_API_URL is not set$"):
        embed(LocalApiProvider({}), MODEL, ["text"])


def test_unknown_kind_stops_the_start():
    with pytest.raises(ValueError, match="openai, openai-exact, tei, ollama"):
        LocalApiProvider({"kind": "vllm"})


def test_unknown_model_is_the_servers_404(open_provider, ollama_upstream, embed):
    provider = open_provider(LocalApiProvider, ollama_upstream, kind="ollama")

    with pytest.raises(ProviderRejected, match='model "other" not found') as caught:
        embed(provider, "other", ["text"])

    assert caught.value.status == 404


def test_tei_s_v1_keeps_the_same_32_items(open_provider, compatible_upstream, embed):
    compatible_upstream.max_items = 32
    provider = open_provider(LocalApiProvider, compatible_upstream)

    assert len(embed(provider, MODEL, ["text"] * 70).vectors) == 70
    assert len(compatible_upstream.calls) == 3


def test_tei_is_asked_not_to_truncate(open_provider, tei_upstream, embed):
    provider = open_provider(LocalApiProvider, tei_upstream, kind="tei")

    with pytest.raises(ProviderRejected, match="must have less than 512 tokens"):
        embed(provider, MODEL, ["word " * 600])


@pytest.mark.parametrize("kind", ["tei", "openai"])
def test_tei_s_424_means_that_the_model_failed(
    open_provider, tei_upstream, embed, monkeypatch, kind
):
    monkeypatch.setattr("tests.upstreams.faults.STATUS", {Fault.SERVER_ERROR: 424})
    tei_upstream.fault = Fault.SERVER_ERROR
    provider = open_provider(LocalApiProvider, tei_upstream, kind=kind)

    with pytest.raises(ProviderUnavailable):
        embed(provider, MODEL, ["text"])


def test_tei_s_tokens_come_from_its_header(open_provider, tei_upstream, embed):
    provider = open_provider(LocalApiProvider, tei_upstream, kind="tei")

    assert embed(provider, MODEL, ["one two", "three"]).prompt_tokens == 3


def test_wrong_kind_for_the_server_is_not_taken_for_vectors(
    open_provider, compatible_upstream, embed, monkeypatch
):
    monkeypatch.setattr(compatible_upstream, "require", lambda *args: None)
    monkeypatch.setattr(
        compatible_upstream,
        "answer",
        lambda *args: (["x"], "document", 4, {"tokens": 1}),
    )
    provider = open_provider(LocalApiProvider, compatible_upstream, kind="tei")

    with pytest.raises(ProviderMalformed):
        embed(provider, MODEL, ["text"])
