from dataclasses import replace

import pytest

from embeddings.services.cache.keys import cache_keys
from embeddings.services.types import Target
from providers.base import ModelSpec

SPEC = ModelSpec(name="m", dimensions=2, max_tokens=5, vector_space="s", revision="1")


def key(provider="p", dimensions=None, input_type="document", text="t", **of_the_model):
    target = Target(provider=provider, model=replace(SPEC, **of_the_model))
    return cache_keys(
        target, dimensions=dimensions, input_type=input_type, texts=[text]
    )[0]


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "q"},
        {"name": "n"},
        {"revision": "2"},
        {"dimensions": 2},
        {"input_type": "query"},
        {"text": "u"},
    ],
)
def test_keys_differ_by_everything_that_changes_the_vector(change):
    assert key(**change) != key()


def test_what_does_not_change_the_vector_does_not_change_the_key():
    assert key(max_tokens=9, aliases=("other",), price_per_million_tokens=1.0) == key()


def test_parts_of_a_key_do_not_run_into_each_other():
    assert key(provider="p", name="mm") != key(provider="pm", name="m")
    assert key(name="m1", revision="") != key(name="m", revision="1")
