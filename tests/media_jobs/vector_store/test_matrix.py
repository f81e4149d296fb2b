"""Which chunks a search compares whole: those that are nearest, found among many by a byte and a bit a dimension."""

import numpy as np
import pytest

from media_jobs.vector_store import matrix
from media_jobs.vector_store.coded import CodedVectors
from media_jobs.vector_store.matrix import Block, Matrix

ROWS = 30_000
DIMENSIONS = 96
TOP_K = 10
CHUNKS_AN_ITEM = 20


def units(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def around(centres, random, *, spread):
    """Return a unit vector near each of `centres`."""
    return units(centres + spread * units(random.normal(size=centres.shape)))


@pytest.fixture(scope="module", params=["in clusters", "all in one direction"])
def drawn(request):
    """Vectors and queries of some hundred topics; those of some models all lean to one side."""
    random = np.random.default_rng(11)
    topics = random.normal(size=(300, DIMENSIONS))
    if request.param == "all in one direction":
        topics += 3 * random.normal(size=(1, DIMENSIONS))
    drawn = units(topics)[random.integers(len(topics), size=ROWS + 40)]
    vectors = around(drawn, random, spread=0.7)
    return vectors[:ROWS], vectors[ROWS:]


def matrix_of(vectors, size=matrix.BLOCK_ROWS):
    ids = np.arange(len(vectors))
    blocks = [
        Block.of(part, part // CHUNKS_AN_ITEM, CodedVectors.of(vectors[part]))
        for part in np.split(ids, range(size, len(ids), size))
    ]
    return Matrix(version=1, blocks=tuple(blocks))


@pytest.fixture(scope="module")
def filled(drawn):
    return matrix_of(drawn[0])


def nearest(vectors, query, rows):
    return set(rows[np.argsort(-(vectors[rows] @ query), kind="stable")[:TOP_K]])


def recall(filled, drawn, only=None):
    vectors, queries = drawn
    rows = np.arange(ROWS)
    if only is not None:
        rows = rows[np.isin(rows // CHUNKS_AN_ITEM, only)]
    found = [
        len(
            nearest(vectors, query, rows)
            & set(filled.candidates(query, TOP_K, only=only))
        )
        for query in queries
    ]
    return sum(found) / TOP_K / len(queries)


def test_next_to_all_of_the_nearest_among_many_are_compared_whole(filled, drawn):
    assert ROWS > matrix.COMPARED_ROWS
    assert recall(filled, drawn) >= 0.99


def test_a_filter_that_leaves_many_costs_no_recall(filled, drawn):
    items = range(0, ROWS // CHUNKS_AN_ITEM, 3)
    assert recall(filled, drawn, only=list(items)[::-1]) >= 0.99


def test_of_few_rows_all_of_the_nearest_are_compared_whole(filled, drawn):
    items = list(range(0, ROWS // CHUNKS_AN_ITEM, 7))
    assert len(items) * CHUNKS_AN_ITEM < matrix.COMPARED_ROWS
    assert recall(filled, drawn, only=items) == 1


def test_few_chunks_are_read_for_a_search(filled, drawn):
    assert max(len(filled.candidates(query, TOP_K)) for query in drawn[1]) < 100


def test_next_to_all_of_the_nearest_to_noise_are_compared_whole():
    """Where nothing is near, the signs say little, and more rows are compared."""
    random = np.random.default_rng(5)
    drawn = units(random.normal(size=(ROWS + 20, DIMENSIONS)))
    drawn = drawn[:ROWS], drawn[ROWS:]
    assert recall(matrix_of(drawn[0]), drawn) >= 0.99


def test_bounds_hold_the_cosine_of_every_row(filled, drawn):
    vectors, queries = drawn
    (block, *_) = filled.blocks
    for query in queries:
        exact = vectors[block.chunk_ids] @ query
        least, most = block.vectors.bounds(query, np.arange(block.live_rows))
        assert (least <= exact).all()
        assert (exact <= most).all()


@pytest.mark.parametrize("dimensions", [1, 3, 64, 65, 1000])
def test_vectors_of_any_length_are_found(dimensions):
    vectors = units(np.random.default_rng(2).normal(size=(50, dimensions)))
    for row in (0, 49):
        assert row in matrix_of(vectors, 20).candidates(vectors[row], 50)


def test_of_equal_chunks_those_stored_first_are_compared(monkeypatch):
    monkeypatch.setattr(matrix, "COMPARED_ROWS", 100)
    monkeypatch.setattr(matrix, "MAX_CANDIDATES", 30)
    vectors = np.tile(units(np.ones((1, 8))), (400, 1))
    found = matrix_of(vectors, 64).candidates(vectors[0], TOP_K)
    assert found == list(range(30))


def test_vectors_of_zeros_hide_no_other(monkeypatch):
    monkeypatch.setattr(matrix, "COMPARED_ROWS", 10)
    vectors = np.zeros((300, 8), dtype=np.float32)
    vectors[70] = units(np.ones((1, 8)))
    assert 70 in matrix_of(vectors, 64).candidates(vectors[70], 1)


def test_joined_blocks_find_the_same(drawn):
    vectors, queries = drawn
    small = matrix_of(vectors[:1000], 10)
    one = Matrix(version=1, blocks=(matrix.joined(*small.blocks),))
    for query in queries[:10]:
        assert one.candidates(query, TOP_K) == small.candidates(query, TOP_K)
