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


@pytest.mark.parametrize("number", [2, 3, 7, 50])
def test_picture_does_not_depend_on_signs_of_the_solver(number, monkeypatch):
    vectors = some(number)
    before = projected(vectors).points
    solve = np.linalg.eigh

    def turned(matrix):
        values, axes = solve(matrix)
        return values, -axes

    monkeypatch.setattr(np.linalg, "eigh", turned)
    np.testing.assert_array_equal(projected(vectors).points, before)


def test_share_is_what_the_map_shows():
    found = projected(some(40))
    assert 0.1 < found.share < 0.6
