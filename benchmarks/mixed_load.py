"""Clients of an installation, each a user of its own: every answer is compared with the one that is known."""

import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import MINILM
from benchmarks.corpus import short_texts
from benchmarks.fault_record import ANSWERED, Api, FaultRecord, WrongAnswer, outcome_of
from benchmarks.installation import MODEL, UPSTREAMS, Installation, wait_until
from benchmarks.peers.known_upstream import vector_of
from media_jobs.chunking import spans

SAME = 1e-5
LOCAL = f"onnx:{MINILM}"
TEXTS = 200
CHUNK_SIZE = 100
SAME_TEXT = 0.999  # the least score of a chunk that is searched for by its own text
SEARCHED_DOCUMENTS = 3
JOB_SECONDS = 120.0


class Client(threading.Thread):
    """Asks, waits, and asks again. `answered`: when it was; `unsure`: requests that failed, and may have been done."""

    def __init__(self, user: str, installation: Installation) -> None:
        super().__init__(name=user, daemon=True)
        self.user = user
        self.choose = random.Random(user)
        self.api = Api(port=installation.port, key=installation.keys[user])
        self.answered: list[float] = []
        self.unsure = 0

    def prepare(self) -> None:
        """Store what its questions are about, while nothing fails."""

    def load(
        self, record: FaultRecord, over: threading.Event, *, pause_seconds: float
    ) -> None:
        """Begin to ask, until `over`."""
        self._record, self._over, self._pause = record, over, pause_seconds
        self.start()

    def run(self) -> None:
        while not self._over.wait(self._pause):
            if self._record.ask(lambda: outcome_of(self.call)) == ANSWERED:
                self.answered.append(time.monotonic())
            else:
                self.unsure += 1
                self._over.wait(0.1)

    def call(self) -> None:
        """Make one request. Raises OSError, HTTPException, WrongAnswer."""
        raise NotImplementedError

    def embedded(self, text: str, model: str, *, fallback: str) -> NDArray[np.float32]:
        body = {"input": text, "model": model}
        answer = self.api.call("POST", "/embeddings", body, fallback=fallback)
        return np.array(answer["data"][0]["embedding"], dtype=np.float32)


class LocalClient(Client):
    """Embeds texts by the local model, many of them cached."""

    def prepare(self) -> None:
        self._texts = short_texts(TEXTS)
        self._known = [self._vector(text) for text in self._texts]

    def call(self) -> None:
        number = self.choose.randrange(TEXTS)
        _check(self._vector(self._texts[number]), self._known[number])

    def _vector(self, text: str) -> NDArray[np.float32]:
        return self.embedded(text, LOCAL, fallback="off")


class UpstreamClient(Client):
    """Embeds texts that nobody has seen by either upstream; where that one is away, the other answers."""

    def call(self) -> None:
        text = f"text {self.choose.random()} of {self.user}"
        model = f"{self.choose.choice(UPSTREAMS)}:{MODEL}"
        _check(self.embedded(text, model, fallback="same_space"), vector_of(text))


class DocumentClient(Client):
    """Stores documents and has them embedded, some locally, some by an upstream.

    Of more than `keep` it deletes the oldest. `documents`: id -> its number, in the order in which they came; `jobs`:
    the document of each.
    """

    keep = 0
    sentences = 20

    def __init__(self, user: str, installation: Installation) -> None:
        super().__init__(user, installation)
        self.documents: dict[int, int] = {}
        self.jobs: dict[str, int] = {}
        self._number = 0
        self._without_job: int | None = None

    def call(self) -> None:
        if self._without_job is not None:
            self._start_job(self._without_job)
            self._without_job = None
        elif self.keep and len(self.documents) > self.keep:
            oldest = next(iter(self.documents))
            self.api.call("DELETE", f"/media/{oldest}")
            del self.documents[oldest]
        else:
            self._number += 1
            body = {"title": f"{self._number}", "content": self.content(self._number)}
            stored = self.api.call("POST", "/media", body)["media_id"]
            self.documents[stored] = self._number
            self._without_job = stored

    def _start_job(self, document: int) -> None:
        body = {
            "embedding_model": self.model(self.documents[document]),
            "chunk_size": CHUNK_SIZE,
            "chunk_overlap": 0,
        }
        job = self.api.call("POST", f"/media/{document}/embeddings", body)
        self.jobs[job["job_id"]] = document

    def model(self, number: int) -> str:
        """Return by what a document is embedded."""
        models = (LOCAL, *(f"{name}:{MODEL}" for name in UPSTREAMS))
        return models[number % len(models)]

    def content(self, number: int) -> str:
        sentences = short_texts(self.sentences, start=self.sentences * number)
        return " ".join(f"({number}) {sentence}." for sentence in sentences)

    def chunks(self, number: int) -> list[str]:
        """Return what a document is to be cut into."""
        text = self.content(number)
        found = spans(text, size=CHUNK_SIZE, overlap=0)
        return [text[span.start : span.end] for span in found]

    def find(self, document: int, number: int) -> None:
        """Search for one chunk by its own text. Raises WrongAnswer where something else is found."""
        text = self.choose.choice(self.chunks(number))
        body = {"query": text, "top_k": 1, "model": self.model(number)}
        results = self.api.call("POST", "/media/embeddings/search", body)["results"]
        if not results or results[0]["text"] != text or results[0]["score"] < SAME_TEXT:
            raise WrongAnswer
        if results[0]["media_id"] != document:
            raise WrongAnswer

    def wrong_documents(self) -> Iterator[str]:
        """Yield which of its documents are not found by their own text."""
        for document, number in self.documents.items():
            if document != self._without_job:
                outcome = outcome_of(partial(self.find, document, number))
                if outcome != ANSWERED:
                    yield f"{self.user}: document {document} is not found: {outcome}"

    def finished(self) -> dict[str, int]:
        """Return how many of its jobs are in which state."""
        states: dict[str, int] = {}
        for job in self.jobs:
            state = self.api.call("GET", f"/media/embeddings/jobs/{job}")["status"]
            states[state] = states.get(state, 0) + 1
        return states

    def wait_for_jobs(self, *, seconds: float = JOB_SECONDS) -> None:
        """Return once none waits or runs. Raises RuntimeError."""
        wait_until(
            lambda: not {"queued", "processing"} & self.finished().keys(),
            what=f"the end of the jobs of {self.user}",
            seconds=seconds,
        )


class SearchClient(DocumentClient):
    """Searches its own documents, which stay as they are."""

    def prepare(self) -> None:
        for _ in range(2 * SEARCHED_DOCUMENTS):  # each takes two calls
            super().call()
        self.wait_for_jobs()

    def call(self) -> None:
        self.find(*self.choose.choice([*self.documents.items()]))

    def model(self, number: int) -> str:
        return LOCAL


class LongDocumentClient(DocumentClient):
    """Stores documents whose jobs take several steps."""

    sentences = 400


class CacheClient(Client):
    """Empties the cache, so that texts are computed again and again. As an operator of the server."""

    def call(self) -> None:
        self.api.call("DELETE", "/embeddings/cache")


KINDS: dict[str, type[Client]] = {
    "local": LocalClient,
    "upstream": UpstreamClient,
    "search": SearchClient,
    "documents": DocumentClient,
    "long": LongDocumentClient,
}


def _check(vector: Any, known: NDArray[np.float32]) -> None:
    if vector.shape != known.shape or np.abs(vector - known).max() > SAME:
        raise WrongAnswer
