"""Who is measured, how each is started, and how each speaks."""

import base64
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.servers import Server, free_port, request

REPOSITORY = Path(__file__).parents[1]
KEY = "a-key-for-the-benchmark"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PEERS = REPOSITORY / ".tools" / "bench-peers"
FASTAPI = REPOSITORY / ".tools" / "bench-fastapi"
# Infinity is quiet and calls nobody; nothing is fetched while it runs.
INFINITY_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "HF_HUB_OFFLINE": "1",
}
Kind = Literal["ours", "peer", "floor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A server to measure. `command` may hold `{port}`; `model` is what requests name."""

    name: str
    title: str
    kind: Kind
    command: tuple[str, ...]
    model: str
    path: str
    environment: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Return whether it is this server."""
        return self.kind == "ours"

    def start(self, logs: Path) -> Server:
        """Start it; it is not ready yet."""
        port = free_port()
        return Server(
            [part.format(port=port) for part in self.command],
            port=port,
            log=logs / f"{self.name}.log",
            environment={
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", str(logs)),
                "PORT": str(port),
                **self.environment,
            },
            cwd=REPOSITORY,
        )

    def body(self, texts: str | Sequence[str]) -> bytes:
        """Return the body that asks for the vectors of `texts`, as OpenAI's SDK would."""
        value = {"input": texts, "model": self.model, "encoding_format": "base64"}
        return json.dumps(value).encode()

    def answers(self, port: int, text: str = "Is anybody there?") -> bool:
        """Return whether it embeds a text."""
        return (
            request(
                port,
                self.path,
                method="POST",
                headers={**self.headers, "Content-Type": "application/json"},
                body=self.body(text),
            )
            is not None
        )

    def forget(self, port: int) -> None:
        """Empty its cache, if it has one. Raises RuntimeError if that fails."""
        if self.ours:
            path = "/api/v1/embeddings/cache"
            if request(port, path, method="DELETE", headers=self.headers) is None:
                raise RuntimeError(f"{self.name} does not clear its cache")


def vectors_of(answer: str) -> NDArray[np.float32]:
    """Read the vectors in an answer, base64 or numbers."""
    rows = [_vector(item["embedding"]) for item in json.loads(answer)["data"]]
    return np.stack(rows)


def ours(name: str, title: str, provider: str, data_dir: Path) -> Contestant:
    """Return this server as `make serve` starts it; nothing is set but where it lies, the key and who may be called."""
    return Contestant(
        name=name,
        title=title,
        kind="ours",
        command=(sys.executable, "manage.py", "serve"),
        model=f"{provider}:{MODEL}",
        path="/api/v1/embeddings",
        environment={"DATA_DIR": str(data_dir), "SINGLE_USER_API_KEY": KEY},
        headers={"X-API-KEY": KEY},
    )


def empty_view() -> Contestant:
    """Return the floor of the stack: a REST framework view that does nothing, under gunicorn's own threads."""
    settings = ("--worker-class", "gthread", "--threads", "64", "--keep-alive", "75")
    return Contestant(
        name="empty_view",
        title="empty REST framework view",
        kind="floor",
        command=(
            *(sys.executable, "-m", "gunicorn", *settings),
            *("--bind", "127.0.0.1:{port}", "benchmarks.peers.empty_view:application"),
        ),
        model="none",
        path="/api/v1/embeddings",
    )


def fastapi(model_folder: Path) -> Contestant:
    """Return sentence-transformers behind FastAPI, in this environment's own versions."""
    return Contestant(
        name="fastapi",
        title="sentence-transformers + FastAPI",
        kind="peer",
        command=(
            *(sys.executable, "-m", "uvicorn", "--log-level", "warning"),
            *("--port", "{port}", "benchmarks.peers.fastapi_app:app"),
        ),
        model="all-MiniLM-L6-v2",
        path="/v1/embeddings",
        environment={"PYTHONPATH": str(FASTAPI), "MODEL_FOLDER": str(model_folder)},
    )


def infinity(name: str, title: str, engine: str, model_folder: Path) -> Contestant:
    """Return Infinity with one of its engines, otherwise at its defaults."""
    return Contestant(
        name=name,
        title=title,
        kind="peer",
        command=(
            *(str(PEERS / "bin" / "infinity_emb"), "v2", "--port", "{port}"),
            *("--engine", engine, "--device", "cpu", "--log-level", "warning"),
            *("--no-bettertransformer", "--no-vector-disk-cache"),
            *("--pooling-method", "mean"),  # which it would not guess of a folder
            *("--model-id", str(model_folder), "--served-model-name", "minilm"),
        ),
        model="minilm",
        path="/embeddings",
        environment=INFINITY_ENVIRONMENT,
    )


def _vector(embedding: Any) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4")
    return np.asarray(embedding, dtype=np.float32)
