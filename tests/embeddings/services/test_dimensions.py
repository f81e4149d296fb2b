import numpy as np
import pytest

from embeddings.services.dimensions import normalised, resized


def test_row_that_is_zero_stays_zero_alone_too():
    zero = np.zeros((1, 3), np.float32)
    np.testing.assert_array_equal(normalised(zero), zero)


def test_rows_get_unit_length_and_a_zero_row_stays_zero():
    answer = normalised(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(answer, [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)
    assert answer.dtype == np.float32


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e30, 3e38])
def test_neither_huge_nor_tiny_rows_lose_their_direction(scale):
    answer = normalised(np.array([[1, -1]], np.float32) * np.float32(scale))
    np.testing.assert_allclose(answer, [[0.5**0.5, -(0.5**0.5)]], rtol=1e-6)


@pytest.mark.parametrize("size", [3, 384, 1000])
def test_row_gets_the_same_bits_alone_and_among_others(size):
    wide = np.random.default_rng(size).standard_normal((200, size))
    rows = (wide * np.logspace(-30, 30, 200)[:, None]).astype(np.float32)
    rows[7] = 0
    alone = np.concatenate([normalised(row[None]) for row in rows])
    np.testing.assert_array_equal(alone, normalised(rows))


def test_rows_of_unit_length_keep_their_bits():
    rows = np.random.default_rng(1).standard_normal((200, 384)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    mixed = np.concatenate([unit, 2 * unit])
    np.testing.assert_array_equal(normalised(mixed)[:200], unit)
    np.testing.assert_array_equal(normalised(unit[:1]), unit[:1])
    lengths = np.linalg.norm(normalised(mixed).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_the_given_array_is_left_alone(rows):
    given = np.array([[3, 4]] * rows, np.float32)
    normalised(given)
    resized(given, 1, "reduce")
    resized(given, 3, "pad")
    np.testing.assert_array_equal(given, [[3, 4]] * rows)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("length", [0.999, 0.9999, 1.0001, 1.001])
def test_row_of_nearly_unit_length_gets_unit_length(rows, length):
    given = np.array([[0.6, 0.8]] * rows, np.float32) * np.float32(length)
    lengths = np.linalg.norm(normalised(given).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
