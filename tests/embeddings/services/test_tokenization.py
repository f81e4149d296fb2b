"""What the service counts and cuts is what the engine reads, on a real tokenizer with prompts."""

import json
import random

import pytest

from embeddings.services.errors import InputTooLong, InvalidRequest
from embeddings.services.tokenization import prepare
from embeddings.services.types import EmbeddingRequest, Target
from providers.plugins.huggingface import HuggingFaceProvider
from tests.providers.engine import tiny

PROMPTS = {"query": "q q ", "document": "a text of a page: "}
LIMIT = 32


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompted")
    source = tiny.write_model(folder / "own" / "my-model")
    described = json.dumps({"prompts": PROMPTS})
    (source / "config_sentence_transformers.json").write_text(described)
    made = HuggingFaceProvider.from_settings(
        {"data_dir": folder / "data", "model_paths": (source,), "threads": 1}
    )
    made.download("my-model")
    yield made
    made.close()


def prepared(provider, texts, **asked):
    target = Target(provider=provider, model=provider.resolve("my-model"))
    request = EmbeddingRequest(inputs=texts, **asked)
    return prepare(request, requested=target, target=target)


def read(provider, texts, input_type):
    """Return the tokens that the engine reads of each text, the prompt's included."""
    model = provider.resolve("my-model")
    provider.embed(
        model, texts, dimensions=None, input_type=input_type, timeout_seconds=30
    )
    ids = provider.tokenizer(model).encode(model.prompted(texts, input_type))
    return [len(row) for row in ids]


@pytest.mark.parametrize("input_type", ["query", "document"])
def test_what_is_cut_fits_the_engine_and_is_counted_as_it_reads_it(
    provider, input_type
):
    choose = random.Random(input_type)
    pieces = ["a", "bc", "defg", "?", "\u200b", "\n", "é", "東"]
    texts = [
        "x" + choose.choice(["", " "]).join(choose.choices(pieces, k=length))
        for length in range(60)
    ]
    done = prepared(provider, texts, truncate=True, input_type=input_type)
    counts = read(provider, done.texts, input_type)
    assert done.counted_tokens == sum(counts)
    assert max(counts) == LIMIT
    assert 0 < done.truncated < len(texts)
    for text, cut in zip(texts, done.texts, strict=True):
        assert text.startswith(cut)


def test_prompt_s_tokens_decide_whether_a_text_is_too_long(provider):
    text = "a " * (LIMIT - 2 - 2)
    assert prepared(provider, [text], input_type="query").counted_tokens == LIMIT
    with pytest.raises(InputTooLong) as refused:
        prepared(provider, ["a", text], input_type="document")
    [offender] = refused.value.details
    assert offender["index"] == 1
    assert offender["tokens"] > LIMIT


@pytest.mark.parametrize("text", ["\u200b", "\x01\x7f", "\u0301 \u200d"])
@pytest.mark.parametrize("input_type", ["query", "document"])
def test_text_of_special_tokens_alone_is_refused(provider, text, input_type):
    for _ in range(2):  # the second time no count is new
        with pytest.raises(InvalidRequest) as refused:
            prepared(provider, ["a", text], input_type=input_type, place="texts[{}]")
        assert refused.value.param == "texts[1]"


def test_unknown_words_are_served(provider):
    assert prepared(provider, ["東京"], input_type="query").counted_tokens == 6
