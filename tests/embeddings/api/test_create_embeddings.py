import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from providers.exceptions import (
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    TextsTooLong,
)
from tests.fakes import MINILM, WordTokenizer, vector_of

URL = "/api/v1/embeddings"


def unit(text, size):
    vector = vector_of(text, size)
    return vector / np.linalg.norm(vector)


def rows(response):
    return np.array(
        [item["embedding"] for item in response.json()["data"]], dtype=np.float32
    )


def test_answer_has_openai_s_shape_and_the_model_that_really_ran(post):
    response = post({"input": "two words", "model": f"huggingface:{MINILM}"})
    body = response.json()
    embedding = body["data"][0].pop("embedding")
    assert body == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0}],
        "model": f"huggingface:{MINILM}",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    np.testing.assert_allclose(embedding, unit("two words", 8), atol=1e-7)


def test_vectors_come_in_the_order_of_the_inputs(post):
    texts = [f"text {number}" for number in range(50)]
    answered = rows(post({"input": texts, "model": f"onnx:{MINILM}"}))
    np.testing.assert_allclose(answered, [unit(text, 8) for text in texts], atol=1e-7)


def test_base64_holds_the_same_float32_as_floats(post):
    body = {"input": ["one", "two"], "model": f"onnx:{MINILM}"}
    floats = rows(post(body))
    encoded = post({**body, "encoding_format": "base64"}).json()["data"]
    decoded = [
        np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in encoded
    ]
    np.testing.assert_array_equal(floats, decoded)


def test_floats_are_the_shortest_decimals_that_read_back_to_the_same_float32(post):
    response = post({"input": "one", "model": f"onnx:{MINILM}"})
    literals = json.loads(response.content, parse_float=str)["data"][0]["embedding"]
    expected = unit("one", 8)
    for literal, value in zip(literals, rows(response)[0], strict=True):
        assert np.float32(literal) == value
        assert float(literal) == float(str(np.float32(value)))
    np.testing.assert_allclose(rows(response)[0], expected, atol=1e-7)


def test_token_arrays_are_read_in_openai_s_encoding_and_counted_as_given(post, fakes):
    # cl100k_base: 15339 1917 = "hello world"
    response = post({"input": [15339, 1917], "model": f"onnx:{MINILM}"})
    assert fakes["onnx"].calls == [["hello world"]]
    assert response.json()["usage"]["prompt_tokens"] == 2
    assert len(response.json()["data"]) == 1


def test_each_token_array_of_a_list_is_one_item(post, fakes):
    post({"input": [[15339], [1917, 0]], "model": f"onnx:{MINILM}"})
    assert fakes["onnx"].calls == [["hello", " world!"]]


def test_token_arrays_are_read_in_the_model_s_own_vocabulary_on_request(post, fakes):
    headers = {"X-Embeddings-Token-Encoding": "model"}
    post({"input": [1, 2], "model": f"onnx:{MINILM}"}, **headers)
    assert fakes["onnx"].calls == [["w1 w2"]]


def test_special_token_text_is_ordinary_text(post):
    body = {"input": "<|endoftext|>", "model": f"onnx:{MINILM}"}
    assert post(body).status_code == 200


@pytest.mark.parametrize("suffix", ["", "/"])
def test_paths_are_served_with_and_without_a_trailing_slash(post, suffix):
    body = {"input": "a", "model": f"onnx:{MINILM}"}
    assert post(body, path=URL + suffix).status_code == 200


def test_quick_start_without_a_key_is_answered_by_the_local_model_and_says_so(post):
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.status_code == 200
    assert response.json()["model"] == f"huggingface:{MINILM}"
    assert response.headers["X-Embeddings-Provider"] == "huggingface"
    assert response.headers["X-Embeddings-Fallback-From"] == "openai"
    assert response.headers["X-Embeddings-Vector-Space"] == MINILM


def test_configured_provider_answers_itself_without_a_fallback_header(post, fakes):
    fakes["openai"].problem = None
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.json()["model"] == "text-embedding-3-small"
    assert response.headers["X-Embeddings-Provider"] == "openai"
    assert "X-Embeddings-Fallback-From" not in response.headers


def test_native_dimensions_are_asked_of_the_model_itself(post, fakes):
    fakes["openai"].problem = None
    response = post({"input": "a", "model": "text-embedding-3-small", "dimensions": 4})
    np.testing.assert_allclose(rows(response)[0], unit("a", 4), atol=1e-7)
    assert response.headers["X-Embeddings-Dimensions-Policy"] == "reduce"


@pytest.mark.parametrize(
    ("policy", "asked", "answered", "said"),
    [
        ("reduce", 3, 3, "reduce"),
        ("reduce", 12, 8, "ignore"),
        ("pad", 3, 3, "reduce"),
        ("pad", 12, 12, "pad"),
        ("ignore", 3, 8, "ignore"),
        ("ignore", 12, 8, "ignore"),
        ("reduce", 8, 8, "ignore"),
    ],
)
def test_dimensions_policy_sizes_the_vectors_and_says_what_it_did(
    post, configure, policy, asked, answered, said
):
    configure(dimensions_policy=policy)
    response = post({"input": "a", "model": f"onnx:{MINILM}", "dimensions": asked})
    assert response.headers["X-Embeddings-Dimensions-Policy"] == said
    vector = rows(response)[0]
    assert len(vector) == answered
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("asked", "answered"), [(4, 4), (3, 8)])
def test_a_local_model_is_cut_to_the_sizes_it_was_made_for_whatever_the_policy(
    post, configure, fakes, asked, answered
):
    configure(dimensions_policy="ignore")
    local = fakes["onnx"]
    local.whole = True
    local.specs = (replace(local.specs[0], native_dimensions=(4, 8)),)
    response = post({"input": "a", "model": f"onnx:{MINILM}", "dimensions": asked})
    cut = unit("a", 8)[:answered]
    expected = cut / np.linalg.norm(cut)
    np.testing.assert_allclose(rows(response)[0], expected, atol=1e-7)
    assert response.headers["X-Embeddings-Dimensions-Policy"] == (
        "reduce" if answered == 4 else "ignore"
    )
    # The cache keeps vectors whole: the other sizes are cut of the same.
    post({"input": "a", "model": f"onnx:{MINILM}", "dimensions": 8})
    assert len(local.calls) == 1


def test_no_dimensions_no_policy_header(post):
    response = post({"input": "a", "model": f"onnx:{MINILM}"})
    assert "X-Embeddings-Dimensions-Policy" not in response.headers


def test_inputs_over_the_limit_are_all_listed_in_the_guide_s_object(post):
    long = " ".join(["word"] * 11)
    response = post({"input": ["ok", long, long + " more"], "model": f"onnx:{MINILM}"})
    assert response.status_code == 400
    assert response.json() == {
        "error": "input_too_long",
        "message": f"One or more inputs exceed max tokens 10 for model onnx:{MINILM}",
        "details": [{"index": 1, "tokens": 11}, {"index": 2, "tokens": 12}],
    }


def test_inputs_over_the_limit_are_cut_on_request_and_the_answer_says_how_many(
    post, fakes
):
    long = " ".join(["word"] * 11)
    response = post(
        {"input": ["ok", long], "model": f"onnx:{MINILM}"},
        **{"X-Embeddings-Truncate": "end"},
    )
    assert response.headers["X-Embeddings-Truncated"] == "1"
    assert fakes["onnx"].calls == [["ok", " ".join(["word"] * 10)]]
    assert response.json()["usage"]["prompt_tokens"] == 11


def test_limit_counts_the_model_s_prompt(post, fakes):
    words = " ".join(["word"] * 7)
    response = post({"input": [words, "ok"], "model": "onnx:prompted"})
    assert response.status_code == 400
    assert response.json() == {
        "error": "input_too_long",
        "message": "One or more inputs exceed max tokens 10 for model onnx:prompted",
        "details": [{"index": 0, "tokens": 11}],
    }
    query = {"X-Embeddings-Input-Type": "query"}  # whose prompt is shorter
    response = post({"input": [words, "ok"], "model": "onnx:prompted"}, **query)
    assert response.status_code == 200


def test_inputs_are_cut_with_the_prompt_in_mind(post, fakes):
    long = " ".join(f"w{number}" for number in range(20))
    for input_type, left in (("document", 6), ("query", 8)):
        headers = {
            "X-Embeddings-Truncate": "end",
            "X-Embeddings-Input-Type": input_type,
        }
        response = post({"input": [long, "ok"], "model": "onnx:prompted"}, **headers)
        assert response.headers["X-Embeddings-Truncated"] == "1"
        assert fakes["onnx"].calls.pop() == [" ".join(long.split()[:left]), "ok"]


@pytest.mark.parametrize("text", ["word " * 20, "\u200b" * 20 + "word"])
def test_prompt_that_leaves_no_tokens_for_the_text_is_input_too_long(
    post, fakes, monkeypatch, text
):
    full = replace(fakes["onnx"].resolve("prompted"), max_tokens=4)
    monkeypatch.setattr(type(fakes["onnx"]), "specs", (full,))
    response = post(
        {"input": text, "model": "onnx:prompted"}, **{"X-Embeddings-Truncate": "end"}
    )
    assert response.status_code == 400
    assert response.json()["error"] == "input_too_long"
    assert fakes["onnx"].calls == []


@pytest.mark.parametrize("left", ["", " \u200b\u200b", " w" * 11])
def test_cut_that_leaves_no_token_or_too_many_is_never_served(
    post, fakes, monkeypatch, left
):
    class Careless(WordTokenizer):
        def truncate(self, text, max_tokens):
            return left

    monkeypatch.setattr(fakes["onnx"], "tokenizer", lambda model: Careless())
    response = post(
        {"input": [left + " w" * 20], "model": f"onnx:{MINILM}"},
        **{"X-Embeddings-Truncate": "end"},
    )
    assert response.status_code == 400
    assert response.json()["error"] == "input_too_long"
    assert fakes["onnx"].calls == []


def test_usage_counts_the_prompt_with_each_text_and_given_ids_as_given(post):
    body = {"input": ["hi", "two words"], "model": "onnx:prompted"}
    assert post(body).json()["usage"]["prompt_tokens"] == 4 + 1 + 4 + 2
    query = {"X-Embeddings-Input-Type": "query"}
    assert post(body, **query).json()["usage"]["prompt_tokens"] == 2 + 1 + 2 + 2
    ids = {"input": [15339, 1917], "model": "onnx:prompted"}
    assert post(ids).json()["usage"]["prompt_tokens"] == 2


def test_estimate_for_a_model_whose_vocabulary_is_not_public_counts_the_prompt(
    post, fakes, monkeypatch
):
    monkeypatch.setattr(fakes["onnx"], "tokenizer", lambda model: None)
    usages = [
        post({"input": "hi", "model": f"onnx:{model}"}).json()["usage"]
        for model in ("prompted", "only-onnx")
    ]
    # cl100k_base: "text of a passage: " and "hi" are 6 tokens
    assert [usage["prompt_tokens"] for usage in usages] == [6, 1]


def test_what_the_engine_finds_too_long_is_the_guide_s_object_with_the_request_s_index(
    post, fakes
):
    model = f"onnx:{MINILM}"
    post({"input": "in the cache", "model": model})
    fakes["onnx"].fault = TextsTooLong(model=MINILM, max_tokens=9, tokens={"long": 12})
    response = post({"input": ["in the cache", "long", "short"], "model": model})
    assert response.status_code == 400
    assert response.json() == {
        "error": "input_too_long",
        "message": f"One or more inputs exceed max tokens 9 for model {model}",
        "details": [{"index": 1, "tokens": 12}],
    }


@pytest.mark.parametrize("model", [MINILM, "prompted"])
def test_text_without_tokens_is_refused_with_its_index(post, fakes, model):
    post({"input": "a", "model": f"onnx:{model}"})
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"input": "\u200b"}, URL, "input[0]"),
        ({"input": ["a", "\u200b \u200b", "b"]}, URL, "input[1]"),
        ({"input": [[64], [16067]]}, URL, "input[1]"),  # cl100k_base: U+200B
        ({"texts": ["a", "b", "\u200b"]}, f"{URL}/batch", "texts[2]"),
    ]
    for body, path, place in cases:
        response = post({**body, "model": f"onnx:{model}"}, path=path)
        assert response.status_code == 400, body
        assert response.json()["detail"].startswith(f"{place} has no tokens")
        assert response.json()["error"]["param"] == place
    assert fakes["onnx"].calls == [["a"]]


def test_punctuation_alone_is_served(post):
    for model in (MINILM, "prompted"):
        assert post({"input": "?!", "model": f"onnx:{model}"}).status_code == 200


@pytest.mark.parametrize("path", [URL, f"{URL}/batch"])
def test_local_answers_say_how_exactly_they_were_computed(post, fakes, path):
    field = "texts" if path.endswith("batch") else "input"
    for model, said in ((MINILM, "exact"), ("only-onnx", "fast")):
        response = post({field: ["a"], "model": f"onnx:{model}"}, path=path)
        assert response.headers["X-Embeddings-Precision"] == said
    fakes["openai"].problem = None
    response = post({field: ["a"], "model": "text-embedding-3-small"}, path=path)
    assert "X-Embeddings-Precision" not in response.headers


def test_query_s_vector_is_never_answered_for_a_document(post):
    body = {"input": "a", "model": "onnx:prompted"}
    query = post(body, **{"X-Embeddings-Input-Type": "query"})
    np.testing.assert_allclose(rows(query)[0], unit("search for: a", 8), atol=1e-6)
    document = rows(post(body))[0]
    np.testing.assert_allclose(document, unit("text of a passage: a", 8), atol=1e-6)


def test_repeated_texts_are_computed_once_and_answered_each(post, fakes):
    response = post({"input": ["a", "b", "a"], "model": f"onnx:{MINILM}"})
    assert fakes["onnx"].calls == [["a", "b"]]
    np.testing.assert_array_equal(rows(response)[0], rows(response)[2])
    post({"input": ["b", "a"], "model": f"onnx:{MINILM}"})
    assert len(fakes["onnx"].calls) == 1


def test_fallback_vectors_are_not_kept_under_the_model_that_was_asked_for(post, fakes):
    body = {"input": "a", "model": "text-embedding-3-small"}
    post(body)
    fakes["openai"].problem = None
    assert len(rows(post(body))[0]) == 16


BAD_INPUTS = [
    ("", "input"),
    ("  \n", "input"),
    ([], "input"),
    (None, "input"),
    (True, "input"),
    (1.5, "input"),
    (7, "input"),
    ({}, "input"),
    (["a", ""], "input[1]"),
    (["a", " "], "input[1]"),
    (["a", None], "input[1]"),
    (["a", 1], "input[1]"),
    ([1, "a"], "input[1]"),
    ([1, True], "input[1]"),
    ([1, 1.0], "input[1]"),
    ([1, -1], "input[1]"),
    ([1, 2**40], "input[1]"),
    ([1, 100300], "input[0]"),
    ([[1], []], "input[1]"),
    ([[1], [2, -2]], "input[1][1]"),
    ([[1], "a"], "input[1]"),
    ([None], "input[0]"),
    (["a\0b"], "input[0]"),
]


@pytest.mark.parametrize(("value", "place"), BAD_INPUTS)
def test_bad_input_is_refused_and_its_place_named(post, fakes, value, place):
    response = post({"input": value, "model": f"onnx:{MINILM}"})
    assert response.status_code == 400
    assert response.json()["detail"].startswith(place)
    assert response.json()["error"]["param"] == place
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert fakes["onnx"].calls == []


BAD_FIELDS = [
    ({"dimensions": 0}, "dimensions"),
    ({"dimensions": 8193}, "dimensions"),
    ({"dimensions": "3"}, "dimensions"),
    ({"dimensions": 3.0}, "dimensions"),
    ({"dimensions": True}, "dimensions"),
    ({"encoding_format": "hex"}, "encoding_format"),
    ({"encoding_format": 1}, "encoding_format"),
    ({"user": "u" * 257}, "user"),
    ({"user": 5}, "user"),
    ({"model": ""}, "model"),
    ({"model": None}, "model"),
    ({"model": 3}, "model"),
    ({"model": "onnx:"}, "model"),
    ({"truncate": True}, "truncate"),
]


@pytest.mark.parametrize(("change", "field"), BAD_FIELDS)
def test_bad_fields_are_refused_and_named(post, change, field):
    response = post({"input": "a", "model": f"onnx:{MINILM}", **change})
    assert response.status_code == 400
    assert response.json()["detail"].startswith(field)
    assert response.json()["error"]["param"] == field


def test_missing_fields_are_named(post):
    assert post({"model": "m"}).json()["detail"] == "input is required."
    assert post({"input": "a"}).json()["detail"] == "model is required."


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'{"input": NaN}',
        b'{"input": "\\ud800", "model": "m"}',
        b"\xff\xfe",
        b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_bodies_that_are_no_json_object_are_refused(client, fakes, body):
    response = client.post(URL, body, content_type="application/json")
    assert response.status_code == 400
    assert response.json()["detail"].startswith("The body ")


def test_other_content_types_are_refused_with_the_right_one_named(client):
    response = client.post(URL, "input=a", content_type="text/plain")
    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]


def test_body_over_the_limit_is_refused(post, configure):
    configure(max_body_bytes=2000)
    response = post({"input": "a" * 2000, "model": f"onnx:{MINILM}"})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


def test_2048_items_are_served_and_2049_refused(post):
    model = f"onnx:{MINILM}"
    assert post({"input": ["a"] * 2048, "model": model}).status_code == 200
    assert post({"input": ["a"] * 2049, "model": model}).status_code == 400


def test_one_token_array_of_any_length_is_one_item(post):
    response = post(
        {"input": [1917] * 3000, "model": f"onnx:{MINILM}"},
        **{"X-Embeddings-Truncate": "end"},
    )
    assert response.status_code == 200
    assert response.json()["usage"]["prompt_tokens"] == 3000
    assert len(response.json()["data"]) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "detail"),
    [
        ({"model": "nope"}, {}, 404, "Model 'nope' is not known to provider openai"),
        ({"model": "onnx:nope"}, {}, 404, "Model 'nope' is not known to provider onnx"),
        ({"model": "a"}, {"x-provider": "acme"}, 400, "Unknown provider: acme"),
        ({"model": "onnx:a"}, {"x-provider": "huggingface"}, 400, "The model names"),
        ({"model": "a"}, {"X-Embeddings-Fallback": "x"}, 400, "X-Embeddings-Fallback"),
        ({"model": "a"}, {"X-Embeddings-Truncate": "1"}, 400, "X-Embeddings-Truncate"),
    ],
)
def test_what_cannot_be_routed_is_refused(post, body, headers, status, detail):
    response = post({"input": "a", **body}, **headers)
    assert response.status_code == status
    assert response.json()["detail"].startswith(detail)


def test_provider_names_are_case_insensitive(post):
    response = post({"input": "a", "model": f"ONNX:{MINILM}"})
    assert response.json()["model"] == f"onnx:{MINILM}"
    headers = {"x-provider": "HuggingFace"}
    response = post({"input": "a", "model": "all-MiniLM-L6-v2"}, **headers)
    assert response.json()["model"] == f"huggingface:{MINILM}"


def test_bare_name_that_only_another_provider_lists_goes_there(post):
    response = post({"input": "a", "model": "only-onnx"})
    assert response.json()["model"] == "onnx:only-onnx"


def test_fallback_off_answers_503_with_the_reason_and_when_to_retry(post, fakes):
    fakes["onnx"].fault = ProviderUnavailable("The engine stands still.")
    response = post(
        {"input": "a", "model": f"onnx:{MINILM}"}, **{"X-Embeddings-Fallback": "off"}
    )
    assert response.status_code == 503
    assert "onnx: The engine stands still" in response.json()["detail"]
    assert response.json()["error"]["type"] == "service_unavailable_error"
    assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("path", [URL, f"{URL}/batch"])
def test_what_only_an_operator_can_mend_is_409_with_the_remedy(post, fakes, path):
    fakes["onnx"].fault = ProviderMisconfigured("Run download_model MiniLM.")
    field = "texts" if path.endswith("batch") else "input"
    response = post(
        {field: ["a"], "model": f"onnx:{MINILM}"},
        path=path,
        **{"X-Embeddings-Fallback": "off"},
    )
    assert response.status_code == 409
    assert response.json()["error"] == {
        "message": "No provider is set up to answer (onnx: Run download_model MiniLM).",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_ready",
    }
    assert "Retry-After" not in response.headers
    assert response.headers["x-should-retry"] == "false"


def test_lasting_reasons_of_all_targets_are_named_together(post, fakes):
    for name in ("huggingface", "onnx"):
        fakes[name].fault = ProviderMisconfigured(f"{name} has no files.")
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.status_code == 409
    assert response.json()["detail"].startswith(
        "No provider is set up to answer (openai: OPENAI_API_KEY is not set;"
        " huggingface: huggingface has no files; onnx: onnx has no files"
    )


def test_one_passing_reason_makes_it_503(post, fakes):
    fakes["huggingface"].fault = ProviderMisconfigured("No files.")
    fakes["onnx"].fault = ProviderUnavailable("down.")
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.status_code == 503
    assert response.headers["Retry-After"]


def test_same_space_never_answers_with_another_space_s_vectors(post, fakes):
    headers = {"X-Embeddings-Fallback": "same_space"}
    response = post({"input": "a", "model": "text-embedding-3-small"}, **headers)
    assert response.status_code == 409
    fakes["huggingface"].fault = ProviderUnavailable("huggingface is down.")
    response = post({"input": "a", "model": f"huggingface:{MINILM}"}, **headers)
    assert response.headers["X-Embeddings-Provider"] == "onnx"


def test_all_targets_failed_names_each_in_turn(post, fakes):
    for name in ("huggingface", "onnx"):
        fakes[name].fault = ProviderUnavailable(f"{name} is down.")
    response = post({"input": "a", "model": "text-embedding-3-small"})
    detail = response.json()["detail"]
    assert response.status_code == 503
    assert detail.index("openai") < detail.index("huggingface") < detail.index("onnx")


def test_rejected_by_the_upstream_is_the_client_s_error_and_no_fallback(post, fakes):
    fakes["openai"].problem = None
    fakes["openai"].fault = ProviderRejected("Too many tokens in input 3.")
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.status_code == 400
    assert response.json()["detail"] == "Too many tokens in input 3."
    assert fakes["huggingface"].calls == []


def test_batch_endpoint_answers_bare_vectors(post):
    response = post(
        {"texts": ["a", "b"], "model": MINILM, "provider": "onnx", "dimensions": 4},
        path=f"{URL}/batch",
    )
    body = response.json()
    vectors = body.pop("embeddings")
    assert body == {"model": f"onnx:{MINILM}", "provider": "onnx", "count": 2}
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1])
    assert len(vectors[0]) == 4


def test_batch_endpoint_may_omit_the_model(post):
    response = post({"texts": ["a"]}, path=f"{URL}/batch")
    assert response.headers["X-Embeddings-Fallback-From"] == "openai"


@pytest.mark.parametrize(
    ("texts", "place"),
    [([], "texts"), ("a", "texts"), ([[1]], "texts[0]"), (["a", " "], "texts[1]")],
)
def test_batch_endpoint_takes_strings_only(post, texts, place):
    response = post({"texts": texts}, path=f"{URL}/batch")
    assert response.status_code == 400
    assert response.json()["detail"].startswith(place)


def test_batch_provider_and_header_that_disagree_are_refused(post):
    body = {"texts": ["a"], "provider": "onnx"}
    response = post(body, path=f"{URL}/batch", **{"x-provider": "huggingface"})
    assert response.status_code == 400


def test_input_type_is_kept_apart_in_the_cache(post, fakes):
    body = {"input": "a", "model": f"onnx:{MINILM}"}
    post(body, **{"X-Embeddings-Input-Type": "query"})
    post(body)
    assert len(fakes["onnx"].calls) == 2
