"""What is searched in memory is there once: all web processes map it, and follow each change at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("the embedded vector store")

SEARCHES = 40


@pytest.fixture
def start(launch):
    def start(**changes):
        server = launch(WEB_CONCURRENCY="2", MEDIA_WORKERS="1", **changes)
        return server.wait_until_ready()

    return start


def call(server, method, path, **body):
    """Send a request over a connection of its own: any web process may get it."""
    answer = requests.request(
        method, server.api + path, json=body, headers=server.headers, timeout=60
    )
    assert answer.ok, answer.text
    return answer.json()


def embed(server, media_id):
    """Make the item's vectors, and wait until they are stored."""
    job_id = call(server, "POST", f"/media/{media_id}/embeddings")["job_id"]
    path = f"/media/embeddings/jobs/{job_id}"
    poll(
        lambda: call(server, "GET", path)["status"] == "completed",
        seconds=120,
        what="the job's end",
    )


def search(server, query):
    """Search many times, by all web processes at once; return the different lists of texts that were found."""

    def found(_):
        path = "/media/embeddings/search"
        answer = call(server, "POST", path, query=query, top_k=5)
        return tuple(row["text"] for row in answer["results"])

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(found, range(SEARCHES)))


def mapped_by(worker):
    """Return the block files that a web process maps."""
    paths = [Path(region.path) for region in worker.memory_maps(grouped=True)]
    return {path for path in paths if path.parent.parent.name == "search"}


@pytest.mark.parametrize("engine", ["auto", "inline"])
def test_web_processes_map_the_same_vectors_and_see_a_change_at_once(start, engine):
    server = start(EMBEDDINGS_ENGINE=engine)
    texts = {"red": "The fox is red and quick.", "old": "The owl is old and wise."}
    ids = {
        name: call(server, "POST", "/media", title=name, content=text)["media_id"]
        for name, text in texts.items()
    }
    for media_id in ids.values():
        embed(server, media_id)

    def mapped():
        found = search(server, "an owl")
        assert found == {(texts["old"], texts["red"])}
        blocks = [mapped_by(worker) for worker in server.workers()]
        return blocks if len(blocks) == 2 and all(blocks) else None

    one, other = poll(mapped, seconds=60, what="searches by both processes")
    assert one == other
    assert all(path.exists() for path in one)

    new = "The owl has flown away."
    call(server, "PATCH", f"/media/{ids['old']}", content=new)
    embed(server, ids["old"])
    assert search(server, "an owl") == {(new, texts["red"])}
    folder = next(iter(one)).parents[2]
    server.stop()
    assert not folder.exists()


def test_a_web_process_that_is_killed_costs_no_wrong_hit(start):
    server = start()
    texts = [f"Sentence {number} is about foxes." for number in range(3)]
    for text in texts:
        embed(
            server, call(server, "POST", "/media", title="t", content=text)["media_id"]
        )
    expected = search(server, "foxes")
    assert [set(found) for found in expected] == [set(texts)]
    killed = server.workers()[0]
    psutil.Process(killed.pid).kill()
    poll(
        lambda: len(server.workers()) == 2 and killed not in server.workers(),
        seconds=60,
        what="another web process",
    )
    assert search(server, "foxes") == expected
