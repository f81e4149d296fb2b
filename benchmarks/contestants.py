"""Who is measured, how each is started, and how each speaks."""

import base64
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.servers import Server, free_port, request

REPOSITORY = Path(__file__).parents[1]
TOOLS = REPOSITORY / ".tools"
KEY = "a-key-for-the-benchmark"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
REMOTE_MODEL = "text-embedding-3-small"
PEERS = TOOLS / "bench-peers"
FASTAPI = TOOLS / "bench-fastapi"
LITELLM = TOOLS / "bench-litellm"
# This project's own earlier state, which is measured in the same run.
BEFORE_COMMIT = "513a80f"
BEFORE = TOOLS / f"bench-{BEFORE_COMMIT}"
PATH = "/api/v1/embeddings"
# Infinity is quiet and calls nobody; nothing is fetched while it runs.
INFINITY_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "HF_HUB_OFFLINE": "1",
}
PROVIDERS = {"exact": "huggingface", "fast": "onnx"}
Kind = Literal["ours", "before", "peer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A server to measure. `command` may hold `{port}`; `model` is what requests name."""

    name: str
    title: str
    kind: Kind
    command: tuple[str, ...]
    model: str
    path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = REPOSITORY
    cores: Collection[int] | None = None

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
            cwd=self.cwd,
            cores=self.cores,
        )

    def body(self, texts: str | Sequence[str]) -> bytes:
        """Return the body that asks for the vectors of `texts`, as OpenAI's SDK would."""
        value = {"input": texts, "model": self.model, "encoding_format": "base64"}
        return json.dumps(value).encode()

    def answers(self, port: int) -> bool:
        """Return whether it embeds a text."""
        body = self.body("Is anybody there?")
        return self.call(port, "POST", self.path, body) is not None

    def call(self, port: int, method: str, path: str, body: bytes | None = None) -> Any:
        """Return what a call answers, read from JSON, or None if it fails."""
        headers = {**self.headers, "Content-Type": "application/json"}
        answer = request(port, path, method=method, headers=headers, body=body)
        return None if answer is None else json.loads(answer or b"{}")

    def forget(self, port: int) -> None:
        """Empty its cache, if it has one. Raises RuntimeError if that fails."""
        if self.kind == "peer":
            return
        if self.call(port, "DELETE", f"{PATH}/cache") is None:
            raise RuntimeError(f"{self.name} does not clear its cache")


def vectors_of(answer: str) -> NDArray[np.float32]:
    """Read the vectors in an answer, base64 or numbers."""
    rows = [_vector(item["embedding"]) for item in json.loads(answer)["data"]]
    return np.stack(rows)


def ours(
    name: str,
    title: str,
    data_dir: Path,
    *,
    model: str,
    cores: Collection[int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Contestant:
    """Return this server as `make serve` starts it; nothing is set but where it lies, the key and what is given."""
    return Contestant(
        name=name,
        title=title,
        kind="ours",
        command=(sys.executable, "manage.py", "serve"),
        model=model,
        path=PATH,
        environment={
            "DATA_DIR": str(data_dir),
            "SINGLE_USER_API_KEY": KEY,
            **(environment or {}),
        },
        headers={"X-API-KEY": KEY},
        cores=cores,
    )


def before(
    name: str,
    title: str,
    data_dir: Path,
    *,
    model: str,
    cores: Collection[int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Contestant:
    """Return the earlier state of this server, in the environment of its own dependencies."""
    return Contestant(
        name=name,
        title=title,
        kind="before",
        command=(str(BEFORE / ".venv" / "bin" / "python"), "manage.py", "serve"),
        model=model,
        path=PATH,
        environment={
            "DATA_DIR": str(data_dir),
            "SINGLE_USER_API_KEY": KEY,
            **(environment or {}),
        },
        headers={"X-API-KEY": KEY},
        cwd=BEFORE,
        cores=cores,
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
        model="model",
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
            "--no-model-warmup",  # each is warmed up alike
            *("--pooling-method", "mean"),  # which it would not guess of a folder
            *("--model-id", str(model_folder), "--served-model-name", "model"),
        ),
        model="model",
        path="/embeddings",
        environment=INFINITY_ENVIRONMENT,
    )


def peers(model_folder: Path, graphs: Path) -> list[Contestant]:
    """Return all servers of others that compute vectors; `graphs` is what `prepare_infinity` made."""
    return [
        fastapi(model_folder),
        infinity("infinity_torch", "Infinity, torch", "torch", model_folder),
        infinity("infinity_onnx", "Infinity, ONNX fp32", "optimum", graphs / "fp32"),
        infinity("infinity_int8", "Infinity, ONNX int8", "optimum", graphs / "int8"),
    ]


def litellm(upstream: str, scratch: Path, cores: Collection[int] | None) -> Contestant:
    """Return LiteLLM's proxy at its defaults, with one route to an upstream that speaks as OpenAI does."""
    config = scratch / "litellm.yaml"
    # JSON is YAML, too.
    route = {
        "model_name": REMOTE_MODEL,
        "litellm_params": {
            "model": f"openai/{REMOTE_MODEL}",
            "api_base": upstream,
            "api_key": KEY,
        },
    }
    config.write_text(json.dumps({"model_list": [route]}))
    return Contestant(
        name="litellm",
        title="LiteLLM's proxy",
        kind="peer",
        command=(
            *(str(LITELLM / "bin" / "litellm"), "--config", str(config)),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
        model=REMOTE_MODEL,
        path="/v1/embeddings",
        environment={
            "LITELLM_MASTER_KEY": f"sk-{KEY}",  # it does not start without
            # The map of prices would be fetched from elsewhere at each start.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        headers={"Authorization": f"Bearer sk-{KEY}"},
        cores=cores,
    )


def stub_upstream(cores: Collection[int] | None = None) -> Contestant:
    """Return an upstream that answers at once, in a process of its own."""
    return Contestant(
        name="direct",
        title="the stub itself",
        kind="peer",
        command=(sys.executable, "-m", "benchmarks.peers.stub_upstream", "{port}"),
        model=REMOTE_MODEL,
        path="/v1/embeddings",
        cores=cores,
    )


def _vector(embedding: Any) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4")
    return np.asarray(embedding, dtype=np.float32)
