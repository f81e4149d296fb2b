"""Two items, two users, two models: nothing crosses."""

import itertools

import pytest
from django.contrib.auth.models import User

from media_jobs.models import StoredChunk
from media_jobs.tasks import work
from tests.fakes import MINILM
from tests.media_jobs.conftest import MEDIA

MODELS = (MINILM, "only-onnx")
TEXT = "The cat sat on the mat. The dog lay by the door. " * 5


@pytest.fixture
def users(client_of, make_user):
    return {name: client_of(make_user(name)) for name in ("ada", "eve")}


@pytest.fixture
def items(users, create, start):
    """The same text for each user and model: (user, model) -> media id."""
    made = {}
    for name, model in itertools.product(users, MODELS):
        by = users[name]
        made[name, model] = create(TEXT, by=by, title=f"{name} {model}")["media_id"]
        start(
            made[name, model],
            by=by,
            embedding_model=f"onnx:{model}",
            chunk_size=60,
            chunk_overlap=0,
        )
    work()
    return made


def rows():
    """Return everything stored, by item."""
    chunks = StoredChunk.objects.order_by("media_id", "index").values_list(
        "media_id", "pk", "space__vector_space", "text", "vector"
    )
    found = {}
    for media_id, *row in chunks:
        found.setdefault(media_id, []).append(row)
    return found


def test_every_item_has_its_own_chunks_in_its_own_space(items):
    stored = rows()
    assert stored.keys() == set(items.values())
    ids = [row[0] for chunks in stored.values() for row in chunks]
    assert len(ids) == len(set(ids))
    for (_, model), media_id in items.items():
        assert {row[1] for row in stored[media_id]} == {model}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["ada", "eve"])
def test_search_finds_the_callers_items_of_the_callers_model(items, users, name, model):
    body = {"query": "The cat sat on the mat.", "model": f"onnx:{model}", "top_k": 100}
    answer = users[name].post(f"{MEDIA}/embeddings/search", body, format="json").json()
    assert {row["media_id"] for row in answer["results"]} == {items[name, model]}


def test_another_model_for_one_item_touches_no_other(items, users, start):
    changed = items["ada", MINILM]
    before = rows()
    start(changed, by=users["ada"], embedding_model="onnx:only-onnx", dimensions=4)
    work()
    after = rows()
    assert after.pop(changed) != before.pop(changed)
    assert after == before


def test_deleting_one_item_touches_no_other(items, users):
    before = rows()
    users["eve"].delete(f"{MEDIA}/{items['eve', MINILM]}")
    del before[items["eve", MINILM]]
    assert rows() == before


def test_deleting_a_user_takes_its_items_and_vectors_along(items, users):
    before = rows()
    User.objects.get(username="eve").delete()
    assert rows() == {
        media_id: before[media_id]
        for (name, _), media_id in items.items()
        if name == "ada"
    }
