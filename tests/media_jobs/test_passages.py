"""A document's text with its chunks in it."""

import pytest

from media_jobs.models import MediaItem
from media_jobs.services import passages
from media_jobs.services.passages import PAGE_CHARACTERS, Place, cut, text_page
from media_jobs.tasks import work


def place(index, start, end):
    return Place(index=index, start=start, end=end)


def pieces(*places, text="abcdefghij", offset=0):
    return [
        (piece.text, piece.chunks, piece.begins)
        for piece in cut(text, places, offset=offset)
    ]


def test_text_without_chunks_is_one_piece():
    assert pieces() == [("abcdefghij", (), ())]


def test_text_is_cut_where_chunks_begin_end_and_overlap():
    assert pieces(place(0, 0, 5), place(1, 4, 8)) == [
        ("abcd", (0,), (0,)),
        ("e", (0, 1), (1,)),
        ("fgh", (1,), ()),
        ("ij", (), ()),
    ]


def test_chunks_that_reach_beyond_the_page_are_cut_to_it():
    found = pieces(place(3, 90, 104), place(4, 103, 200), offset=100)
    assert found == [("abc", (3,), ()), ("d", (3, 4), (4,)), ("efghij", (4,), ())]


@pytest.fixture
def embedded(create, start):
    text = "".join(f"Sentence {number} of a long text.\n" for number in range(900))
    media_id = create(text)["media_id"]
    start(media_id, chunk_size=200, chunk_overlap=60)
    work()
    return MediaItem.objects.defer("content").get(pk=media_id)


def joined(page):
    return "".join(passage.text for passage in page.passages)


def test_pages_give_the_whole_text_once(embedded):
    first = text_page(embedded)
    assert first.pages > 1
    pages = [text_page(embedded, page=1 + n) for n in range(first.pages)]
    whole = MediaItem.objects.get(pk=embedded.pk).content
    assert "".join(map(joined, pages)) == whole
    begun = [one for page in pages for piece in page.passages for one in piece.begins]
    assert sorted(begun) == list(range(embedded.embedding_count))
    assert any(piece.is_overlap for page in pages for piece in page.passages)


def test_page_of_a_chunk_is_found_by_its_number(embedded):
    last = embedded.embedding_count - 1
    page = text_page(embedded, chunk=last)
    assert any(last in piece.begins for piece in page.passages)


def test_chunks_of_a_page_are_found_among_very_many(embedded, monkeypatch):
    pages = [text_page(embedded, page=1 + n) for n in range(3)]
    monkeypatch.setattr(passages, "STEPS_BACK", 5)
    monkeypatch.setattr(passages, "SAMPLED", 20)
    assert [text_page(embedded, page=1 + n) for n in range(3)] == pages


@pytest.mark.parametrize("page", [0, 10**6])
def test_page_that_is_not_there_is_the_nearest(embedded, page):
    found = text_page(embedded, page=page)
    assert found.number == (1 if page == 0 else found.pages)


def test_page_takes_few_queries_however_long_the_text(
    embedded, django_assert_num_queries
):
    with django_assert_num_queries(2):
        text_page(embedded, page=2)


def test_text_that_is_not_embedded_is_paged_by_characters(create):
    media_id = create("x" * (PAGE_CHARACTERS + 5))["media_id"]
    item = MediaItem.objects.defer("content").get(pk=media_id)
    second = text_page(item, page=2)
    assert (joined(second), second.pages, second.has_chunks) == ("xxxxx", 2, False)


def test_chunks_of_an_older_text_are_not_drawn_into_the_new(embedded):
    MediaItem.objects.filter(pk=embedded.pk).update(content="New.", checksum="other")
    embedded.refresh_from_db()
    assert not text_page(embedded).has_chunks
