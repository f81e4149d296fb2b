"""Hybrid search: words and vectors, on every store."""

from dataclasses import replace

import pytest

from media_jobs.models import MediaItem
from media_jobs.vector_store import full_text
from media_jobs.vector_store.full_text import fused, telling, words_of
from tests.media_jobs.vector_store.conftest import SPACE, chunks, unit

EAST, NORTH = unit(1, 0, 0, 0), unit(0, 1, 0, 0)


@pytest.fixture
def write(store, new_item):
    """Return a function that stores one item with these texts, all with one vector, and returns its id."""

    def store_texts(*texts, vector=NORTH, space=SPACE):
        item = new_item()
        pieces = chunks(*[vector] * len(texts))
        pieces = [
            replace(piece, text=text) for piece, text in zip(pieces, texts, strict=True)
        ]
        store.replace(item, space, pieces)
        return item

    return store_texts


def texts(store, text, query=EAST, **options):
    hits = store.search(
        query, SPACE, top_k=options.pop("top_k", 100), text=text, **options
    )
    return [hit.text for hit in hits]


def found_words(store, text, **options):
    """Return what the words alone find."""
    row = store._space_row(SPACE)
    options = {"media_ids": None, "limit": 100} | options
    return full_text.found_by_words(store.using, text, space_id=row.pk, **options)


def test_chunk_that_holds_the_words_rises_above_equally_near_ones(store, write):
    write("one two", "three four", "five six", "seven eight")
    assert texts(store, "Five?", query=NORTH)[0] == "five six"


def test_chunk_found_by_both_ways_comes_before_one_found_by_either(store, write):
    write("the zebra", vector=EAST)
    write("a zebra far away", "nothing of the kind")
    write("near but other", vector=unit(1, 0.1, 0, 0))
    first, *rest = store.search(EAST, SPACE, top_k=4, text="zebra")
    assert first.text == "the zebra"
    assert first.score == pytest.approx(2 / 61, rel=0.02)
    assert len(rest) == 3


def test_chunk_that_holds_the_question_word_for_word_comes_first(store, write):
    quoted = "The merge strategy\n  created a REGULAR file, with markers."
    write(f"Fixes. {quoted} Others.", vector=NORTH)
    write("regular markers the file with a merge created strategy", vector=EAST)
    asked = "the merge strategy created a regular file with markers"
    assert quoted in texts(store, asked)[0]
    # A few words are in one order or another everywhere.
    assert quoted not in texts(store, "regular file with markers")[0]


def test_rare_word_counts_more_than_frequent_ones(store, write):
    write(*["some common words here"] * 20, "one axolotl swims")
    ids = found_words(store, "common words axolotl")
    assert len(ids) == 21
    assert store._hits([(ids[0], 1.0)])[0].text == "one axolotl swims"


def test_words_are_found_in_any_case_and_language(store, write):
    write(
        "Grüße aus MÜNCHEN", "東京 タワー", "γλώσσα", "snake_case and/or dotted.names"
    )
    for text, expected in (
        ("münchen", "Grüße aus MÜNCHEN"),
        ("GRÜSSE grüße", "Grüße aus MÜNCHEN"),
        ("東京", "東京 タワー"),
        ("γλώσσα", "γλώσσα"),
        ("Dotted", "snake_case and/or dotted.names"),
        ("case", "snake_case and/or dotted.names"),
    ):
        assert texts(store, text, top_k=1, query=NORTH) == [expected], text
        assert len(found_words(store, text)) == 1, text


@pytest.mark.parametrize(
    "text",
    [
        'zebra" OR "',
        "zebra AND NOT (",
        "text:zebra*",
        "^zebra -x +y",
        "zebra NEAR/2 {}",
        "'zebra' & ! | <-> :* \\",
        "%s zebra %(x)s {only}",
        "zebra\x00;--",
        "NOT OR AND zebra",
    ],
)
def test_query_syntax_is_nothing_but_words(store, write, text):
    write("the zebra", "other")
    assert "the zebra" in texts(store, text, top_k=1, query=NORTH)


@pytest.mark.parametrize("text", ["", "   ", "!?%&", "\U0001f600", '"', "unheard"])
def test_text_without_known_words_leaves_the_search_to_the_vectors(store, write, text):
    write("far", vector=NORTH)
    write("near", vector=EAST)
    assert texts(store, text) == ["near", "far"]


def test_words_find_nothing_in_other_spaces_or_items(store, write):
    one = write("zebra one")
    other = write("zebra two")
    write("zebra three", space=replace(SPACE, vector_space="large"))
    assert sorted(texts(store, "zebra")) == ["zebra one", "zebra two"]
    assert texts(store, "zebra", media_ids=[other]) == ["zebra two"]
    assert len(found_words(store, "zebra", media_ids=[one])) == 1


def test_words_of_replaced_and_deleted_chunks_are_forgotten(store, write, new_item):
    item, other = write("zebra"), write("zebra too")
    store.replace(item, SPACE, chunks(EAST, text="horse"))
    assert len(found_words(store, "zebra")) == 1
    assert len(found_words(store, "horse")) == 1
    MediaItem.objects.using(store.using).get(pk=other).delete()
    assert found_words(store, "zebra") == []


def test_words_that_match_too_much_are_not_looked_up(store, write, monkeypatch):
    monkeypatch.setattr(telling, "__kwdefaults__", {"max_matches": 5})
    write(*["common thing"] * 6, "rare thing")
    assert found_words(store, "common") == []
    assert len(found_words(store, "common rare")) == 1


def test_question_is_cut_into_each_word_once():
    assert words_of("Don't STOP, stop; x_y é") == ["Don", "t", "STOP", "x", "y", "é"]
    assert (
        len(words_of(" ".join(f"word{n}" for n in range(500)))) == full_text.MAX_WORDS
    )


def test_rarest_words_are_chosen_while_they_match_little():
    assert telling({"a": 50, "b": 3, "c": 4}, max_matches=10) == ["b", "c"]
    assert telling({"a": 50}, max_matches=10) == []


def test_ranks_are_fused_by_the_sum_of_their_reciprocals():
    assert fused([7, 8], [9, 7]) == [
        (7, 1 / 61 + 1 / 62),
        (9, 1 / 61),
        (8, 1 / 62),
    ]
