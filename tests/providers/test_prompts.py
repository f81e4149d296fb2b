"""What an operator's prompts do to a model's description."""

from dataclasses import replace

import pytest

from providers.base import ModelSpec
from providers.prompts import with_prompts

PLAIN = ModelSpec(
    name="m", dimensions=2, max_tokens=9, vector_space="m", revision="abc"
)
OWN = replace(PLAIN, query_prompt="q: ", document_prompt="d: ")


def test_no_word_from_the_operator_leaves_the_model_as_it_is():
    assert with_prompts(OWN, query=None, document=None) == OWN


def test_the_model_s_own_prompts_written_out_leave_it_as_it_is():
    assert with_prompts(OWN, query="q: ", document="d: ") == OWN
    assert with_prompts(PLAIN, query="", document="") == PLAIN


@pytest.mark.parametrize(
    ("query", "document", "expected"),
    [
        ("new: ", None, ("new: ", "d: ")),
        (None, "new: ", ("q: ", "new: ")),
        ("", None, ("", "d: ")),
        ("d: ", "q: ", ("d: ", "q: ")),
    ],
)
def test_other_prompts_are_another_revision_and_another_space(
    query, document, expected
):
    changed = with_prompts(OWN, query=query, document=document)
    assert (changed.query_prompt, changed.document_prompt) == expected
    mark = changed.vector_space.removeprefix("m#prompt-")
    assert len(mark) == 8
    assert changed.revision == f"abc#prompt-{mark}"


def test_each_pair_of_prompts_has_a_space_of_its_own():
    pairs = [("a", "b"), ("ab", ""), ("", "ab"), ("b", "a"), ('a","b', "")]
    spaces = {
        with_prompts(PLAIN, query=query, document=document).vector_space
        for query, document in pairs
    }
    assert len(spaces) == len(pairs)


def test_models_that_share_a_space_and_get_the_same_prompts_share_one_again():
    """So `huggingface` and `onnx` may be each other's fallback with prompts, too."""
    fast = replace(PLAIN, method="int8-static", revision="def")
    spaces = {
        with_prompts(spec, query="q: ", document=None).vector_space
        for spec in (PLAIN, fast)
    }
    assert len(spaces) == 1
