import pytest

from embeddings.services.tokenization import TokenCounts
from tests.fakes import MINILM, WordTokenizer


class Recording(WordTokenizer):
    def __init__(self):
        self.asked = []

    def count(self, texts):
        self.asked.append(list(texts))
        return super().count(texts)


@pytest.fixture
def tokenizer():
    return Recording()


@pytest.fixture
def count(tokenizer):
    """Return a function that counts texts, each under itself as its key."""
    counts = TokenCounts(max_size=3)

    def of(*texts):
        keys = [text.encode() for text in texts]
        return counts.of(keys, texts, tokenizer.count, provider="onnx")

    return of


def test_only_new_texts_are_tokenised_and_all_are_counted_in_order(count, tokenizer):
    assert count("one", "one two") == [1, 2]
    assert count("one two", "one two three", "one") == [2, 3, 1]
    assert tokenizer.asked == [["one", "one two"], ["one two three"]]


def test_no_more_is_remembered_than_allowed(count, tokenizer):
    count("a", "b", "c", "d")
    count("d", "c", "b")
    assert len(tokenizer.asked) == 1
    count("a")
    assert len(tokenizer.asked) == 2


def test_request_for_cached_texts_tokenises_nothing(post, fakes, monkeypatch):
    tokenizer = Recording()
    monkeypatch.setattr(fakes["onnx"], "tokenizer", lambda model: tokenizer)
    body = {"input": ["one two", "three"], "model": f"onnx:{MINILM}"}
    first, second = post(body).json(), post(body).json()
    assert first["usage"] == second["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert tokenizer.asked == [[""], ["one two", "three"]]


def test_prompt_is_counted_once_for_all_texts_that_follow(post, fakes, monkeypatch):
    tokenizer = Recording()
    monkeypatch.setattr(fakes["onnx"], "tokenizer", lambda model: tokenizer)
    for text in ("one two", "three"):
        post({"input": text, "model": "onnx:prompted"})
    prompt = "text of a passage: "
    assert tokenizer.asked == [[prompt], [f"{prompt}one two"], [f"{prompt}three"]]
