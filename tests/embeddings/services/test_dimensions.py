import numpy as np
import pytest

from embeddings.services.dimensions import normalised, resized


def test_rows_get_unit_length_and_a_zero_row_stays_zero():
    answer = normalised(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(answer, [[0.6, 0.8], [0, 0]], atol=1e-7)
    assert answer.dtype == np.float32


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e30, 3e38])
def test_neither_huge_nor_tiny_rows_lose_their_direction(scale):
    answer = normalised(np.array([[1, -1]], np.float32) * np.float32(scale))
    np.testing.assert_allclose(answer, [[0.5**0.5, -(0.5**0.5)]], rtol=1e-6)


def test_the_given_array_is_left_alone():
    given = np.array([[3, 4]], np.float32)
    normalised(given)
    resized(given, 1, "reduce")
    np.testing.assert_array_equal(given, [[3, 4]])
