import dataclasses

import pytest

from embeddings.services.cache.keys import cache_keys
from embeddings.services.types import Target
from providers.base import ModelSpec
from tests.fakes import FakeLocal

SPEC = ModelSpec(name="m", dimensions=2, max_tokens=5, vector_space="s")


def key(provider="p", dimensions=None, input_type="document", text="t", **changes):
    named = type("Named", (FakeLocal,), {"name": provider})()
    target = Target(provider=named, model=dataclasses.replace(SPEC, **changes))
    return cache_keys(
        target, dimensions=dimensions, input_type=input_type, texts=[text]
    )[0]


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "q"},
        {"name": "n"},
        {"revision": "2"},
        {"vector_space": "t"},
        {"method": "fp32"},
        {"document_prompt": "text: "},
        {"dimensions": 2},
        {"input_type": "query"},
        {"text": "u"},
    ],
    ids=str,
)
def test_keys_differ_by_everything_that_changes_the_vector(change):
    assert key(**change) != key()


def test_prompt_that_is_not_used_changes_no_key():
    assert key(query_prompt="search: ") == key()
    assert key(input_type="query", document_prompt="text: ") == key(input_type="query")


def test_what_does_not_change_the_vector_does_not_change_the_key():
    assert key(max_tokens=9, aliases=("other",), price_per_million_tokens=1.0) == key()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"name": "m\0r"}, {"name": "m", "revision": "r"}),
        ({"name": 'm","r'}, {"name": "m", "revision": "r"}),
        ({"provider": "p", "name": "mm"}, {"provider": "pm", "name": "m"}),
        ({"document_prompt": "a", "text": "b"}, {"document_prompt": "", "text": "ab"}),
        (
            {"document_prompt": "a\0b", "text": "c"},
            {"document_prompt": "a", "text": "b\0c"},
        ),
        ({"method": None}, {"method": "null"}),
    ],
    ids=str,
)
def test_no_two_scopes_run_into_one_another(one, other):
    assert key(**one) != key(**other)
