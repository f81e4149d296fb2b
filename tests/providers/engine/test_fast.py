"""The default model in int8 against itself in float32."""

import numpy as np
import pytest

from providers.plugins.onnx import OnnxProvider
from tests.providers.engine.test_exactness import (
    ODD_TEXTS,
    cosines,
    embed,
    generated,
    paragraphs,
)

# The core suite makes do with a sample; all of them take ten seconds of a processor.
SAMPLE, ALL = 5, pytest.param(1, marks=pytest.mark.e2e)


@pytest.fixture(scope="module")
def fast(minilm):
    return OnnxProvider(minilm.engine)


@pytest.fixture(scope="module")
def model(minilm):
    return minilm.resolve("all-MiniLM-L6-v2")


@pytest.fixture(scope="module", params=[SAMPLE, ALL], ids=["sample", "all"])
def every(request):
    """Of how many texts one is taken."""
    return request.param


@pytest.fixture(scope="module")
def corpus(minilm, model, every):
    """Sentences and short paragraphs, as documents are made of."""
    tokenizer = minilm.tokenizer(model)
    return [tokenizer.truncate(text, 64) for text in paragraphs()[:500:every]]


@pytest.fixture(scope="module")
def odd(minilm, model, every):
    """Scripts, symbols, noise and single characters."""
    tokenizer = minilm.tokenizer(model)
    texts = [*ODD_TEXTS, *(generated(seed) for seed in range(0, 60, every))]
    return [tokenizer.truncate(text, 256) for text in texts]


@pytest.fixture(scope="module")
def both(minilm, fast, corpus):
    return embed(minilm, corpus), embed(fast, corpus)


def test_cosine_to_the_exact_vectors_is_0_995_on_average(both):
    assert cosines(*both).mean() >= 0.995


def test_no_text_falls_below_0_97_however_odd(minilm, fast, both, corpus, odd):
    found = cosines(embed(minilm, odd), embed(fast, odd))
    assert found.min() >= 0.97, odd[int(found.argmin())]
    assert cosines(*both).min() >= 0.97, corpus[int(cosines(*both).argmin())]


def test_nearest_neighbours_are_nearly_the_same(both):
    exact, quick = (neighbours(vectors) for vectors in both)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact, quick, strict=True)]
    assert np.mean(shared) >= 0.95


def neighbours(vectors):
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    return np.argsort(-similarity, axis=1)[:, :10]


def test_a_text_has_the_same_vector_whatever_its_batch_mates(fast, corpus, both):
    apart = len(corpus) // 20
    chosen, together = corpus[::apart], both[1][::apart]
    alone = np.concatenate([embed(fast, [text]) for text in chosen])
    assert np.abs(together - alone).max() <= 1e-6


def test_vectors_are_of_unit_length(both):
    assert np.linalg.norm(both[1], axis=1) == pytest.approx(1, abs=1e-6)
