"""Stored vectors on a map."""

import pytest

from embeddings.services.callers import SYSTEM, Caller
from media_jobs.models import MediaItem
from media_jobs.services import maps
from media_jobs.services.maps import documents_map, item_map, map_spaces
from media_jobs.tasks import work


@pytest.fixture
def embed(create, start):
    def do(title, text, model="only-onnx", **fields):
        media_id = create(text, title=title, **fields)["media_id"]
        start(media_id, embedding_model=f"onnx:{model}", chunk_size=50, chunk_overlap=0)
        work()
        return MediaItem.objects.get(pk=media_id)

    return do


def test_chunks_of_a_document_are_all_drawn_with_the_begin_of_their_text(embed):
    drawn = item_map(embed("On cats", "One cat sat here.\n\n" * 12))
    assert drawn.total == len(drawn.points) > 1
    assert drawn.points[0].name.startswith("One cat")
    assert 0 < drawn.share <= 1


def test_many_chunks_are_a_sample_spread_over_the_text(embed, monkeypatch):
    monkeypatch.setattr(maps, "MAX_POINTS", 4)
    item = embed("Long", "".join(f"Sentence {n} is here.\n\n" for n in range(40)))
    drawn = item_map(item)
    chosen = [point.chunk_index for point in drawn.points]
    assert len(chosen) == 4
    assert chosen[-1] >= drawn.total * 3 // 4
    assert drawn.total == item.embedding_count


def test_documents_of_two_spaces_have_two_maps(embed):
    embed("A", "One.")
    embed("B", "Two.")
    embed("C", "Three.", model="prompted")
    spaces = map_spaces(SYSTEM)
    assert [(one.vector_space, one.documents) for one in spaces] == [
        ("only-onnx", 2),
        ("prompted", 1),
    ]
    assert [p.name for p in documents_map(SYSTEM, spaces[0]).points] == ["A", "B"]
    assert [p.name for p in documents_map(SYSTEM, spaces[1]).points] == ["C"]


def test_many_documents_are_those_embedded_last(embed, monkeypatch):
    monkeypatch.setattr(maps, "MAX_POINTS", 2)
    for title in ("A", "B", "C"):
        embed(title, f"Text of {title}.")
    (space,) = map_spaces(SYSTEM)
    drawn = documents_map(SYSTEM, space)
    assert ([p.name for p in drawn.points], drawn.total) == (["B", "C"], 3)


def test_documents_of_others_are_not_on_the_map(embed):
    embed("A", "One.")
    nobody = Caller(id="user:7", username="x", is_admin=False, user_id=7)
    assert map_spaces(nobody) == []


def test_map_takes_few_queries(embed, django_assert_num_queries):
    for title in ("A", "B", "C"):
        embed(title, "Text.")
    with django_assert_num_queries(5):
        (space,) = map_spaces(SYSTEM)
        documents_map(SYSTEM, space)
