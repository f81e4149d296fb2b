"""Metadata over HTTP: its bounds, and rows that were stored before there were any."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from media_jobs.metadata import keys_of, shown
from media_jobs.models import MediaItem
from media_jobs.tasks import work
from tests.media_jobs.conftest import MEDIA

JSON = "application/json"


def nested(levels, inner="1", opening='{"a":', closing="}"):
    """Return JSON text of so many objects, or of so many lists in an object."""
    return opening * levels + inner + closing * levels


def lists(levels):
    return '{"a":' + nested(levels - 1, opening="[", closing="]") + "}"


def posted(client, metadata):
    body = f'{{"title": "x", "content": "y", "metadata": {metadata}}}'
    return client.post(MEDIA, body, content_type=JSON)


def uploaded(client, metadata):
    form = {"file": SimpleUploadedFile("a.txt", b"text"), "metadata": metadata}
    return client.post(MEDIA, form, format="multipart")


def patched(client, metadata):
    item = MediaItem.objects.create(title="x", content="y")
    body = f'{{"metadata": {metadata}}}'
    return client.patch(f"{MEDIA}/{item.pk}", body, content_type=JSON)


def searched(client, number):
    body = f'{{"query": "x", "filters": {{"metadata": {{"a": {number}}}}}}}'
    return client.post(f"{MEDIA}/embeddings/search", body, content_type=JSON)


send = pytest.mark.parametrize("send", [posted, uploaded, patched])


@send
@pytest.mark.parametrize("text", [nested(32), lists(32)])
def test_metadata_may_be_32_levels_deep(client, db, send, text):
    answer = send(client, text)
    assert answer.status_code in (200, 201)
    assert answer.json()["metadata"] == json.loads(text)


@send
@pytest.mark.parametrize(
    "text", [nested(33), lists(33), nested(252), nested(1010), nested(1010, "9" * 25)]
)
def test_deeper_metadata_is_400(client, db, send, text):
    answer = send(client, text)
    assert answer.status_code == 400
    assert "deep" in answer.json()["detail"]


@send
def test_what_is_too_deep_is_named(client, db, send):
    answer = send(client, nested(33)).json()
    assert answer["error"]["param"] == "metadata"
    assert answer["detail"] == "metadata must be nested at most 32 levels deep."


@send
@pytest.mark.parametrize("text", [r'{"a": ["\u0000"]}', r'{"b": {"\u0000": 1}}'])
def test_nul_is_400(client, db, send, text):
    answer = send(client, text)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "metadata"
    assert "NUL" in answer.json()["detail"]


@send
def test_what_is_written_like_an_escape_is_no_nul(client, db, send):
    metadata = {r"\u0000": r"C:\u0000"}
    assert send(client, json.dumps(metadata)).json()["metadata"] == metadata


BEYOND = [2**63, -(2**63) - 1, 2**64, 10**30, -(10**30), 10**300]


@send
@pytest.mark.parametrize("number", BEYOND, ids="{:.1e}".format)
@pytest.mark.parametrize(
    "around", ['{{"n":{}}}', '{{"n": {} , "m": 1}}', '{{"n": [1, {}\n]}}']
)
def test_whole_number_beyond_64_bits_is_400(client, db, send, number, around):
    answer = send(client, around.format(number))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "metadata"
    assert "64 bits" in answer.json()["detail"]


@send
def test_number_of_5000_digits_is_400(client, db, send):
    assert send(client, f'{{"n": {"9" * 5000}}}').status_code == 400


@send
def test_numbers_are_kept_as_they_were_sent(client, db, send):
    metadata = {
        "most": 2**63 - 1,
        "least": -(2**63),
        "large": 6.02e23,
        "text": "123456789012345678901234567890",
        "words": "n: 123456789012345678901234567890, and more",
    }
    answer = send(client, json.dumps(metadata))
    assert answer.json()["metadata"] == metadata
    assert MediaItem.objects.get().metadata == metadata


@pytest.mark.parametrize("number", BEYOND, ids="{:.1e}".format)
@pytest.mark.parametrize("around", ["{}", "[1, {}]"])
def test_filter_for_a_number_beyond_64_bits_is_400(client, fakes, number, around):
    answer = searched(client, around.format(number))
    assert answer.status_code == 400
    assert "metadata must have whole numbers of 64 bits" in answer.json()["detail"]


# What could be stored before there were bounds, or by way of the console.
OLD = {
    "deep": json.loads(nested(252)),
    "deep lists": json.loads(lists(252)),
    "a large number": {"n": [10**30], "m": 2**63},
    "half of a surrogate pair": {"\ud800": 1, "n": ["\ud800x"]},
}


ON_SQLITE = pytest.mark.sqlite_only("PostgreSQL stores no such text")
OLD_NAMES = [
    pytest.param(name, marks=ON_SQLITE) if "surrogate" in name else name for name in OLD
]


@pytest.fixture(params=OLD_NAMES)
def old(request, create, start):
    """A document with metadata beyond the bounds, embedded."""
    media_id = create("The cat sat.")["media_id"]
    MediaItem.objects.filter(pk=media_id).update(metadata=OLD[request.param])
    start(media_id)
    work()
    return media_id


def test_old_metadata_beyond_the_bounds_spoils_no_list_and_no_search(client, old):
    newer = posted(client, "{}").json()["media_id"]
    listed = client.get(MEDIA)
    assert listed.status_code == 200
    assert [row["media_id"] for row in listed.json()["data"]] == [newer, old]
    assert client.get(f"{MEDIA}/{old}").status_code == 200
    changed = client.patch(f"{MEDIA}/{old}", {"title": "z"}, format="json")
    assert changed.status_code == 200
    body = {"query": "The cat sat.", "filters": {"metadata": {"n.0": "x"}}}
    assert (
        client.post(f"{MEDIA}/embeddings/search", body, format="json").json()["count"]
        == 0
    )
    found = client.post(
        f"{MEDIA}/embeddings/search", {"query": "The cat sat."}, format="json"
    )
    assert [row["media_id"] for row in found.json()["results"]] == [old]
    assert (
        found.json()["results"][0]["metadata"] == listed.json()["data"][1]["metadata"]
    )


def test_what_lies_too_deep_is_shown_as_its_json_text():
    inner = shown(json.loads(nested(40)))
    for _ in range(32):
        inner = inner["a"]
    assert json.loads(inner) == json.loads(nested(8))


def test_number_beyond_64_bits_is_shown_as_its_digits():
    assert shown({"n": 10**30, "m": 1}) == {"n": str(10**30), "m": 1}


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("a.b", ("a", "b")),
        ("", ("",)),
        (".", ("", "")),
        ("a.", ("a", "")),
        (r"a\.b.c", ("a.b", "c")),
        (r"a\\.b", ("a\\", "b")),
        (r"a\b\\", ("a\\b\\",)),
        ("a\n.\n", ("a\n", "\n")),
    ],
)
def test_path_is_parted_at_dots(path, keys):
    assert keys_of(path) == keys
