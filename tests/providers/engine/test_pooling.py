"""Pooling in numpy, each mode with figures that can be done in the head."""

import numpy as np
import pytest

from providers.engine.pooling import normalize, pool

# Two texts of three places, of which the first text fills two: its third is padding.
TOKENS = np.array(
    [[[1, 4], [3, 2], [100, 100]], [[2, 2], [4, 4], [6, 0]]], dtype=np.float32
)
MASK = np.array([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [[1, 4], [2, 2]]),
        ("max", [[3, 4], [6, 4]]),
        ("mean", [[2, 3], [4, 2]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, 6 / 2**0.5], [12 / 3**0.5, 6 / 3**0.5]]),
        ("weightedmean", [[7 / 3, 8 / 3], [28 / 6, 10 / 6]]),
        ("lasttoken", [[3, 2], [6, 0]]),
    ],
)
def test_padding_has_no_part_in_any_mode(mode, expected):
    pooled = pool(TOKENS, MASK, (mode,))
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)
    assert pooled.dtype == np.float32


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [[3, 2], [6, 0]]),
        ("max", [[3, 2], [6, 0]]),
        ("mean", [[3, 2], [6, 0]]),
        ("lasttoken", [[3, 2], [6, 0]]),
    ],
)
def test_a_prompt_s_places_are_left_out_and_no_more(mode, expected):
    pooled = pool(TOKENS, MASK, (mode,), np.array([1, 2]))
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)


def test_modes_stand_one_after_the_other_in_the_order_that_is_asked_for():
    pooled = pool(TOKENS, MASK, ("max", "cls"))
    np.testing.assert_array_equal(pooled, [[3, 4, 1, 4], [6, 4, 2, 2]])


def test_rows_get_unit_length_and_a_zero_row_stays_zero():
    unit = normalize(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
