"""One suite for every store."""

import threading
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from django.db import transaction

from media_jobs.models import ItemVectors, MediaItem, StoredChunk
from media_jobs.vector_store.base import Superseded
from media_jobs.vector_store.bulk import insert_rows
from media_jobs.vector_store.pgvector import PgVectorStore
from tests.media_jobs.vector_store.conftest import (
    SPACE,
    at_once,
    chunks,
    elsewhere,
    unit,
)

EAST, NORTH, UP, WEST = (
    unit(1, 0, 0, 0),
    unit(0, 1, 0, 0),
    unit(0, 0, 1, 0),
    unit(-1, 0, 0, 0),
)


def found(store, query=EAST, space=SPACE, top_k=100, **options):
    """Return what a search finds as (media id, chunk index)."""
    hits = store.search(query, space, top_k=top_k, **options)
    return [(hit.media_id, hit.chunk_index) for hit in hits]


def test_search_returns_the_chunk_exactly_as_it_was_stored(store, new_item):
    item = new_item()
    one = replace(
        chunks(EAST)[0], text="Füße, 東京, \U0001f600\n\ttab", start=7, end=2**33
    )
    assert store.replace(item, SPACE, [one]) == 1
    (hit,) = store.search(EAST, SPACE, top_k=1)
    assert (hit.media_id, hit.chunk_index, hit.text) == (item, 0, one.text)
    assert (hit.start, hit.end) == (7, 2**33)


def test_nearest_chunk_comes_first_and_scores_are_cosines(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(NORTH, unit(1, 1, 0, 0), EAST, WEST))
    hits = store.search(EAST, SPACE, top_k=10)
    assert [hit.chunk_index for hit in hits] == [2, 1, 0, 3]
    off = 0.0005 if isinstance(store, PgVectorStore) else 1e-6  # in half precision
    assert [hit.score for hit in hits] == pytest.approx([1, 0.5**0.5, 0, -1], abs=off)


def test_empty_store_finds_nothing(store):
    assert found(store) == []


def test_unknown_space_finds_nothing(store, new_item):
    store.replace(new_item(), SPACE, chunks(EAST))
    assert found(store, space=replace(SPACE, vector_space="other")) == []


def test_search_returns_no_more_than_top_k(store, new_item):
    store.replace(new_item(), SPACE, chunks(*[EAST] * 5))
    assert [len(found(store, top_k=top_k)) for top_k in (0, 1, 4, 5, 6)] == [
        0,
        1,
        4,
        5,
        5,
    ]


def test_equally_near_chunks_come_in_the_order_they_were_stored(store, new_item):
    first, second = new_item(), new_item()
    store.replace(first, SPACE, chunks(EAST, EAST))
    store.replace(second, SPACE, chunks(EAST))
    assert found(store) == [(first, 0), (first, 1), (second, 0)]
    assert found(store, top_k=2) == [(first, 0), (first, 1)]


def test_replacing_leaves_nothing_of_the_old_chunks(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST, EAST, EAST))
    store.replace(item, SPACE, chunks(NORTH, text="new"))
    (hit,) = store.search(EAST, SPACE, top_k=10)
    assert hit.text == "new 0"
    assert StoredChunk.objects.using(store.using).count() == 1


def test_replacing_with_no_chunks_leaves_nothing(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST))
    assert store.replace(item, SPACE, []) == 0
    assert found(store) == []
    assert store.stats().media == 0


def test_replacing_one_item_touches_no_other(store, new_item):
    one, other = new_item(), new_item()
    store.replace(one, SPACE, chunks(EAST))
    store.replace(other, SPACE, chunks(EAST, NORTH))
    store.replace(one, SPACE, chunks(UP))
    assert found(store) == [(other, 0), (other, 1), (one, 0)]


def test_vectors_of_two_models_never_meet(store, new_item):
    one, other = new_item(), new_item()
    second = replace(SPACE, model="large", vector_space="large")
    store.replace(one, SPACE, chunks(EAST))
    store.replace(other, second, chunks(EAST))
    assert found(store) == [(one, 0)]
    assert found(store, space=second) == [(other, 0)]


def test_vectors_of_two_sizes_never_meet(store, new_item):
    one, other = new_item(), new_item()
    smaller = replace(SPACE, dimensions=2)
    store.replace(one, SPACE, chunks(EAST))
    store.replace(other, smaller, chunks(unit(1, 0)))
    assert found(store) == [(one, 0)]
    assert found(store, unit(1, 0), space=smaller) == [(other, 0)]


def test_two_providers_of_one_model_share_a_space(store, new_item):
    one, other = new_item(), new_item()
    second = replace(SPACE, provider="fast")
    store.replace(one, SPACE, chunks(EAST))
    store.replace(other, second, chunks(EAST))
    assert found(store) == found(store, space=second) == [(one, 0), (other, 0)]


def test_item_that_changes_its_model_leaves_the_old_space(store, new_item):
    item, other = new_item(), new_item()
    second = replace(SPACE, model="large", vector_space="large")
    store.replace(item, SPACE, chunks(EAST))
    store.replace(other, SPACE, chunks(NORTH))
    assert found(store) == [(item, 0), (other, 0)]
    store.replace(item, second, chunks(EAST))
    assert found(store) == [(other, 0)]
    assert found(store, space=second) == [(item, 0)]


def test_search_can_be_bound_to_some_items(store, new_item):
    one, two, three = (new_item() for _ in range(3))
    for item in (one, two, three):
        store.replace(item, SPACE, chunks(EAST))
    assert found(store, media_ids={one, three}) == [(one, 0), (three, 0)]
    assert found(store) == [(one, 0), (two, 0), (three, 0)]
    assert found(store, media_ids={two}) == [(two, 0)]
    assert found(store, media_ids=[three + 1]) == []
    assert found(store, media_ids=[]) == []


def test_bound_search_finds_what_is_far_behind_others(store, new_item):
    crowd, item = new_item(), new_item()
    store.replace(crowd, SPACE, chunks(*[EAST] * 300))
    store.replace(item, SPACE, chunks(WEST))
    assert found(store, top_k=1, media_ids=[item]) == [(item, 0)]


def test_any_number_of_items_can_be_named(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST))
    found(store)
    assert found(store, media_ids=range(item - 100_000, item + 1)) == [(item, 0)]
    assert store.stats(range(item - 100_000, item + 1)).chunks == 1
    assert store.delete(range(item - 100_000, item + 1)) == 1


def test_deleted_vectors_are_gone_and_others_stay(store, new_item):
    one, other = new_item(), new_item()
    store.replace(one, SPACE, chunks(EAST, NORTH))
    store.replace(other, SPACE, chunks(UP))
    found(store)
    assert store.delete([one]) == 2
    assert found(store) == [(other, 0)]
    assert store.delete([one]) == 0


def test_vectors_of_a_deleted_item_are_gone(store, new_item):
    one, other = new_item(), new_item()
    store.replace(one, SPACE, chunks(EAST))
    store.replace(other, SPACE, chunks(NORTH))
    found(store)
    MediaItem.objects.using(store.using).get(pk=one).delete()
    assert found(store) == [(other, 0)]


def test_guard_that_says_no_rolls_everything_back(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST))
    found(store)
    before = store.stats()
    other_space = replace(SPACE, vector_space="large")
    with pytest.raises(Superseded):
        store.replace(item, other_space, chunks(NORTH, UP), guard=lambda: False)
    assert found(store) == [(item, 0)]
    assert store.stats() == before


def test_replacement_is_invisible_until_its_guard_says_yes(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST, EAST))
    seen = []

    def guard():
        seen.append(elsewhere(lambda: found(store)))
        return True

    store.replace(item, SPACE, chunks(NORTH, NORTH, NORTH), guard=guard)
    assert seen == [[(item, 0), (item, 1)]]
    assert len(found(store)) == 3


def test_chunks_that_fail_while_they_are_made_change_nothing(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST))

    def failing():
        yield from chunks(*[NORTH] * 300)  # some are written already
        raise ConnectionError("the provider went away")

    with pytest.raises(ConnectionError):
        store.replace(item, SPACE, failing())
    assert found(store) == [(item, 0)]


def test_vectors_of_a_long_document_are_not_held_together(store, new_item):
    made, most = [], 0

    def many():
        nonlocal most
        for index in range(2000):
            one = chunks(unit(1, index, 0, 0))[0]
            made.append(weakref.ref(one.vector))
            yield replace(one, index=index)
            if index % 50 == 0:
                most = max(most, sum(vector() is not None for vector in made))

    assert store.replace(new_item(), SPACE, many()) == 2000
    assert most <= 600


def test_item_that_is_gone_is_not_written(store, new_item):
    item = new_item()
    MediaItem.objects.using(store.using).filter(pk=item).delete()
    with pytest.raises(Superseded):
        store.replace(item, SPACE, chunks(EAST))
    assert store.stats().chunks == 0


@pytest.mark.parametrize("vector", [[1, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 0]])
def test_vector_that_does_not_fit_the_space_is_refused(store, new_item, vector):
    wrong = chunks(np.array(vector, dtype=np.float32))
    with pytest.raises(ValueError, match="vector"):
        store.replace(new_item(), SPACE, wrong)
    with pytest.raises(ValueError, match="vector"):
        store.search(wrong[0].vector, SPACE, top_k=1)


def test_stats_count_chunks_items_and_spaces(store, new_item):
    one, two, three = (new_item() for _ in range(3))
    large = replace(SPACE, provider="b", vector_space="large", dimensions=2)
    store.replace(one, SPACE, chunks(EAST, NORTH))
    store.replace(two, SPACE, chunks(EAST))
    store.replace(three, large, chunks(unit(1, 0)))
    everything = store.stats()
    assert (everything.chunks, everything.media) == (4, 3)
    assert set(everything.spaces) == {SPACE, large}
    assert store.stats([three]).spaces == (large,)
    assert store.stats([]).chunks == 0


def test_searches_during_replacements_see_the_old_or_the_new_and_never_both(
    store, new_item
):
    item = new_item()
    store.replace(item, SPACE, chunks(*[EAST] * 40, text="0:"))
    done = threading.Event()
    seen = []

    def keep_searching():
        while not done.is_set():
            hits = store.search(EAST, SPACE, top_k=100)
            seen.append((len(hits), {hit.text.partition(":")[0] for hit in hits}))

    def replace_again_and_again():
        try:
            for turn in range(1, 16):
                store.replace(item, SPACE, chunks(*[EAST] * 40, text=f"{turn}:"))
        finally:
            done.set()

    at_once(keep_searching, keep_searching, replace_again_and_again)
    assert {(count, len(turns)) for count, turns in seen} == {(40, 1)}
    assert {
        hit.text.partition(":")[0] for hit in store.search(EAST, SPACE, top_k=9)
    } == {"15"}


def test_replacements_of_one_item_at_once_leave_one_of_them_whole(store, new_item):
    item = new_item()
    vectors = [EAST] * 30

    def write(turn):
        store.replace(item, SPACE, chunks(*vectors, text=f"{turn}:"))

    at_once(*(partial(write, turn) for turn in range(4)))
    hits = store.search(EAST, SPACE, top_k=100)
    assert len(hits) == 30
    assert len({hit.text.partition(":")[0] for hit in hits}) == 1
    assert ItemVectors.objects.using(store.using).get().chunks == 30


def test_vectors_are_read_by_their_chunks(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST, NORTH))
    rows = StoredChunk.objects.using(store.using).order_by("index")
    ids = [*rows.values_list("pk", flat=True), 2**40]
    read = store.vectors(ids)
    assert [read[pk].tolist() for pk in ids[:2]] == [EAST.tolist(), NORTH.tolist()]
    assert len(read) == 2


def test_loaded_chunks_are_found_by_a_store_that_has_searched_before(store, new_item):
    first, second, third = new_item(), new_item(), new_item()
    store.replace(first, SPACE, chunks(WEST))
    assert found(store) == [(first, 0)]
    with transaction.atomic(using=store.using):
        store.load(SPACE, [(second, chunks(EAST, NORTH)), (third, chunks(UP))])
    store.build_index(SPACE)
    assert found(store, top_k=1) == [(second, 0)]
    assert len(found(store)) == 4
    assert store.stats().chunks == 4
    store.delete([second])
    assert len(found(store)) == 2


def test_rows_are_inserted_with_all_that_they_hold(store):
    item = MediaItem(
        title="\\N \t a",
        metadata={"a": ["ü", None, 1.5]},
        warnings=["One."],
        characters=2**33,
        content="Füße\n\\.\n\U0001f600",
    )
    with transaction.atomic(using=store.using):
        insert_rows([item], store.using)
    kept = MediaItem.objects.using(store.using).get(pk=item.pk)
    for name in ("title", "metadata", "warnings", "characters", "content"):
        assert getattr(kept, name) == getattr(item, name)
    assert (kept.created_at, kept.dimensions) == (item.created_at, None)
