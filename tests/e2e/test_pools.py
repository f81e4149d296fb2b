"""A pool of real servers behind a gateway: one frozen, killed and started again under load, one with another model."""

import os
import signal
import threading
from collections import Counter
from typing import Any

import numpy as np
import requests

from tests.e2e.server import MODEL, Server
from tests.e2e.test_added_upstreams import Console
from tests.servers import send
from tests.upstreams import CompatibleUpstream
from tests.waiting import poll

TIMEOUT_SECONDS = 10.0


class Wrong(CompatibleUpstream):
    """Answers to the model's name with other vectors of its width."""

    model = MODEL

    def answer(self, path, headers, body):
        texts, _, _, context = super().answer(path, headers, body)
        return texts, "document", 384, context


class Load:
    """Clients that ask the gateway without a pause; nothing is asked twice, so that no answer is cached."""

    def __init__(self, gateway: Server, clients: int = 2) -> None:
        self.gateway = gateway
        self.statuses: Counter[int] = Counter()
        self.members: Counter[str] = Counter()
        self.strays: list[str] = []
        # A part of the answers, by their texts.
        self.vectors: dict[str, list[float]] = {}
        self._clients = clients
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "Load":
        asking = [
            threading.Thread(target=self._ask, args=(client,))
            for client in range(self._clients)
        ]
        self._threads = asking
        for thread in asking:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, client: int) -> None:
        with requests.Session() as session:
            number = 0
            while not self._over.is_set():
                number += 1
                answer = session.post(
                    f"{self.gateway.api}/embeddings",
                    json={
                        "input": f"{client} {number}",
                        "model": f"local_api:{MODEL}",
                    },
                    headers=self.gateway.headers,
                    timeout=120,
                )
                self.statuses[answer.status_code] += 1
                self.members[answer.headers.get("X-Embeddings-Pool-Member", "")] += 1
                if answer.ok and number % 4 == 0:
                    vector = answer.json()["data"][0]["embedding"]
                    self.vectors[f"{client} {number}"] = vector
                space = answer.headers.get("X-Embeddings-Vector-Space")
                if space != f"local_api/{MODEL}":
                    self.strays.append(f"{answer.status_code} {space} {answer.text}")


def test_pool_loses_no_request_and_answers_no_other_vectors(
    launch, open_handed_server: Server
):
    twin = launch(WEB_CONCURRENCY="1", SINGLE_USER_ACCEPT_BEARER="true")
    twin.wait_until_ready()
    with Wrong() as wrong:
        environment: dict[str, Any] = {
            "WEB_CONCURRENCY": "2",
            "EMBEDDINGS_REQUEST_TIMEOUT": str(TIMEOUT_SECONDS),
            "EMBEDDINGS_FALLBACK": "off",
            "LOCAL_API_URL": open_handed_server.api,
            "LOCAL_API_KEY": open_handed_server.key,
            "UPSTREAM_TWIN_API_KEY": twin.key,
            "UPSTREAM_WRONG_API_KEY": wrong.api_key,
        }
        gateway = launch(**environment).wait_until_ready()
        console = Console(gateway)
        for name, address in (("twin", twin.api), ("wrong", wrong.base_url)):
            console.add(name, kind="local_api", base_url=address, pool="local_api")
        with Load(gateway) as load:
            serves(load, "twin")
            console.delete("twin")
            is_left_alone(load, "twin")
            console.add("twin", kind="local_api", base_url=twin.api, pool="local_api")
            serves(load, "twin")
            freeze(twin, signal.SIGSTOP)
            poll(lambda: ejected(gateway) > 0, seconds=120, what="a timeout")
            is_left_alone(load, "twin")
            freeze(twin, signal.SIGCONT)
            serves(load, "twin")
            for process in twin.members():
                send(process, signal.SIGKILL)
            is_left_alone(load, "twin")
        assert set(load.statuses) == {200}, load.strays[:3]
        assert load.strays == []
        # The first answers are older than the pool.
        assert set(load.members) - {""} == {"local_api", "twin"}
        refused = member(gateway, "wrong")["models"][0]
        assert refused["cosine"] < 0.999
        assert "other vectors" in refused["problem"]
        texts, vectors = [*load.vectors], np.array([*load.vectors.values()])
        own = open_handed_server.embed(texts)
        np.testing.assert_allclose(vectors, own, atol=1e-5)


def freeze(server: Server, number: int) -> None:
    for process in server.members():
        os.kill(process.pid, number)


def serves(load: Load, name: str) -> None:
    before = load.members[name]
    poll(lambda: load.members[name] > before + 3, seconds=120, what=f"{name} serves")


def is_left_alone(load: Load, name: str) -> None:
    """Wait until others have answered for a while, and `name` has not."""

    def alone() -> bool:
        before, total = load.members[name], load.statuses.total()
        poll(
            lambda: load.statuses.total() > total + 20, seconds=120, what="more answers"
        )
        return load.members[name] == before

    poll(alone, seconds=120, what=f"{name} is left alone")


def ejected(gateway: Server) -> float:
    """Return how many calls to the twin got no answer."""
    rows = gateway.get("/api/v1/embeddings/metrics").json()["counters"]
    failures = rows["embedding_pool_failures_total"]
    return float(sum(row["value"] for row in failures if row["member"] == "twin"))


def member(gateway: Server, name: str) -> dict[str, Any]:
    providers = gateway.get("/api/v1/embeddings/providers-config").json()["providers"]
    (pool,) = (one for one in providers if one["name"] == "local_api")
    found: dict[str, Any]
    (found,) = (one for one in pool["members"] if one["name"] == name)
    return found
