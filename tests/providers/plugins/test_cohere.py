from providers.plugins.cohere import CohereProvider


def test_request_has_cohere_s_form(open_provider, cohere_upstream, embed):
    provider = open_provider(CohereProvider, cohere_upstream)

    embed(provider, "embed-v5.0-pro", ["text"], dimensions=768, input_type="query")

    (call,) = cohere_upstream.calls
    assert call.path == "/v2/embed"
    assert call.body == {
        "model": "embed-v5.0-pro",
        "texts": ["text"],
        "input_type": "search_query",
        "embedding_types": ["float"],
        "truncate": "NONE",
        "output_dimension": 768,
    }


def test_97_texts_make_two_calls(open_provider, cohere_upstream, embed):
    provider = open_provider(CohereProvider, cohere_upstream)

    embed(provider, "embed-english-v3.0", ["text"] * 97)

    sizes = sorted(len(call.body["texts"]) for call in cohere_upstream.calls)
    assert sizes == [1, 96]


def test_absent_billing_is_unknown_usage(
    open_provider, cohere_upstream, embed, monkeypatch
):
    render = cohere_upstream.render
    monkeypatch.setattr(
        cohere_upstream, "render", lambda *args: {**render(*args), "meta": None}
    )
    provider = open_provider(CohereProvider, cohere_upstream)

    assert embed(provider, "embed-english-v3.0", ["text"]).prompt_tokens is None
