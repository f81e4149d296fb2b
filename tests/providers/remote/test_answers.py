from base64 import b64encode

import numpy as np
import pytest

from providers.remote import BadAnswerError, field, indexed_answer, whole_number
from providers.remote.answers import checked_vectors, max_answer_bytes


def test_numbers_become_float32_in_order():
    vectors = checked_vectors([[0.5, 1], [-2.25, 1e-3]], count=2, dimensions=2)

    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(
        vectors, np.array([[0.5, 1], [-2.25, 1e-3]], np.float32)
    )


def test_base64_is_little_endian_float32():
    row = b64encode(np.array([1.5, -0.25], dtype="<f4").tobytes()).decode()

    vectors = checked_vectors([row], count=1, dimensions=2)

    np.testing.assert_array_equal(vectors, np.array([[1.5, -0.25]], np.float32))


def test_unknown_size_is_the_first_rows():
    assert checked_vectors([[1.0] * 5], count=1, dimensions=None).shape == (1, 5)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[1.0, 2.0], [1.0, 2.0]],
        [[1.0]],
        [[1.0, 2.0, 3.0]],
        [[1.0, None]],
        [[1.0, "2.0"]],
        [[1.0, True]],
        [[1.0, [2.0]]],
        [[1.0, {}]],
        [[1.0, float("nan")]],
        [[1.0, float("inf")]],
        [[1.0, 3.5e38]],
        [[1.0, -1e300]],
        [{"0": 1.0, "1": 2.0}],
        [None],
        [7],
        ["not base64!"],
        ["AAAA"],
        [b64encode(np.array([1.0, np.nan], dtype="<f4").tobytes()).decode()],
        [b64encode(np.array([1.0], dtype="<f4").tobytes()).decode()],
    ],
)
def test_anything_but_two_finite_numbers_is_refused(rows):
    with pytest.raises(BadAnswerError):
        checked_vectors(rows, count=1, dimensions=2)


def test_rows_of_different_sizes_are_refused_even_if_the_size_is_unknown():
    with pytest.raises(BadAnswerError):
        checked_vectors([[1.0], [1.0, 2.0]], count=2, dimensions=None)


def test_empty_vectors_are_refused_even_if_the_size_is_unknown():
    with pytest.raises(BadAnswerError):
        checked_vectors([[]], count=1, dimensions=None)


def test_indexes_decide_the_order():
    items = [{"index": index, "embedding": [float(index)]} for index in (2, 0, 1)]

    answer = indexed_answer({"data": items, "usage": {"prompt_tokens": 7}})

    assert answer.rows == [[0.0], [1.0], [2.0]]
    assert answer.prompt_tokens == 7


@pytest.mark.parametrize("indexes", [(1.0, 0.0), ("1", "0"), (1, "0")])
def test_index_that_is_written_as_a_float_or_text_decides_the_order(indexes):
    items = [{"index": index, "embedding": [float(index)]} for index in indexes]

    assert indexed_answer({"data": items}).rows == [[0.0], [1.0]]


def test_without_indexes_the_order_stands():
    answer = indexed_answer({"data": [{"embedding": [1.0]}, {"embedding": [0.0]}]})

    assert answer.rows == [[1.0], [0.0]]
    assert answer.prompt_tokens is None


@pytest.mark.parametrize(
    "indexes",
    [
        (0, 0),
        (0, 2),
        (1, 2),
        (0, None),
        (0, True),
        (-1, 0),
        (0, "0"),
        (0.0, "0"),
        (0, 1.5),
        (0, "1.0"),
        (0, "+1"),
        (0, "²"),
        (0, "\u0661"),
        (0, ""),
        (0, "9" * 5000),
    ],
)
def test_indexes_with_gaps_or_repeats_are_refused(indexes):
    items = [{"index": index, "embedding": [1.0]} for index in indexes]

    with pytest.raises(BadAnswerError):
        indexed_answer({"data": items})


@pytest.mark.parametrize(
    "payload", [[], "text", {}, {"data": {}}, {"data": [7]}, {"data": [{"index": 0}]}]
)
def test_other_shapes_are_refused(payload):
    with pytest.raises(BadAnswerError):
        indexed_answer(payload)


@pytest.mark.parametrize("usage", [None, 3, [], {"prompt_tokens": "3"}, {}])
def test_odd_usage_counts_as_none_given(usage):
    items = [{"index": 0, "embedding": [1.0]}]

    assert indexed_answer({"data": items, "usage": usage}).prompt_tokens is None


@pytest.mark.parametrize("value", [True, -1, 1.0, "1", None])
def test_only_whole_numbers_count(value):
    assert whole_number(value) is None


def test_missing_field_is_named_by_its_path():
    with pytest.raises(BadAnswerError, match=r"embeddings\.float"):
        field({"embeddings": {}}, "embeddings", "float", kind=list)


def test_largest_honest_answers_fit_the_bound():
    pretty_number = len("          -0.0123456789012345678,\r\n")

    assert max_answer_bytes(100, 3072) > 100 * 3072 * pretty_number
    assert max_answer_bytes(1, 384) < 100_000
