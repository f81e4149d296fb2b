"""Vectors compared: cosines, nearest pairs, the map in two dimensions."""

import numpy as np
import pytest

from embeddings.services.similarity import cosines, nearest_pairs, projected


def rows(*values):
    return np.array(values, dtype=np.float32)


def some(number, size=16, seed=1):
    return np.random.default_rng(seed).standard_normal((number, size)).astype("f4")


def test_cosine_is_of_directions_alone():
    found = cosines(rows([1, 0], [3, 0], [0, 2], [-1, 0]))
    assert found[0].tolist() == [1, 1, 0, -1]


def test_row_of_zeros_is_like_nothing():
    assert cosines(rows([0, 0], [1, 0])).tolist() == [[0, 0], [0, 1]]


def test_nearest_pairs_come_best_first_and_each_once():
    pairs = nearest_pairs(cosines(rows([1, 0], [0, 1], [1, 0.1], [1, 0])), 2)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 3), (0, 2)]
    assert pairs[0].cosine == 1


@pytest.mark.parametrize("number", [0, 1])
def test_map_of_fewer_than_two_texts_is_the_middle(number):
    assert projected(some(number)).points.tolist() == [[0, 0]] * number


def test_two_texts_lie_on_one_line():
    points = projected(rows([1, 0, 0], [0, 1, 0])).points
    assert points[:, 1].tolist() == [0, 0]
    assert points[0, 0] == pytest.approx(np.sqrt(0.5))
    assert points[1, 0] == pytest.approx(-np.sqrt(0.5))


@pytest.mark.parametrize("number", [2, 3, 20])
def test_identical_texts_lie_on_one_point(number):
    found = projected(np.repeat(some(1), number, axis=0))
    assert not found.points.any()
    assert found.share == 1


def test_distances_are_kept_where_two_dimensions_suffice():
    flat = some(10, 2) @ some(2, 64, seed=2)
    found = projected(flat)
    assert found.share == pytest.approx(1)
    there = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    here = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [3, 7, 50, 100])
def test_axes_are_those_of_the_largest_variance(number):
    vectors = some(number) * np.geomspace(1, 0.01, 16)
    points = projected(vectors).points
    centred = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centred @ centred.T)
    np.testing.assert_allclose((points**2).sum(axis=0), values[:-3:-1], rtol=1e-6)
    there = np.abs(axes[:, :-3:-1]) * np.sqrt(values[:-3:-1])
    np.testing.assert_allclose(np.abs(points), there, atol=1e-3)
    for axis in points.T:
        assert axis[np.argmax(np.abs(axis))] > 0


def test_many_texts_lie_where_an_even_sample_of_them_says():
    vectors = some(400) * np.geomspace(1, 0.01, 16)
    centred = vectors - vectors.mean(axis=0)
    values = np.linalg.eigvalsh(centred.T @ centred)
    found = projected(vectors)
    best = values[-2:].sum() / values.sum()
    assert best - 0.02 < found.share <= best + 1e-9


def test_equal_variance_on_all_sides_still_gives_a_map():
    found = projected(np.eye(8, dtype=np.float32))
    assert found.share == pytest.approx(2 / 7)
    assert found.points[:, 0] @ found.points[:, 1] == pytest.approx(0, abs=1e-6)


def test_share_is_what_the_map_shows():
    found = projected(some(40))
    assert 0.1 < found.share < 0.6
