"""Providers for tests of everything above them: deterministic vectors, no weights, and faults on demand."""

import hashlib
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from providers.base import (
    Download,
    Embedded,
    ModelCard,
    ModelSpec,
    Provider,
    Serving,
)
from providers.exceptions import UnknownModel

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def vector_of(text, size):
    """Return the vector that every fake gives `text`: float32 (size,), not of unit length."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return (np.random.default_rng(seed).standard_normal(size) * 3).astype(np.float32)


class WordTokenizer:
    """One token a word; a zero-width space is none, and no part of one."""

    def count(self, texts):
        return [len(self._words(text)) for text in texts]

    def truncate(self, text, max_tokens):
        words = self._words(text)[:max_tokens]
        return text[: words[-1].end()] if words else ""

    @staticmethod
    def _words(text):
        return list(re.finditer(r"[^\s\u200b]+", text))

    def decode(self, token_ids):
        if max(token_ids) >= 1000:
            raise ValueError(f"{max(token_ids)} is not a token id of this vocabulary")
        return " ".join(f"w{token_id}" for token_id in token_ids)


@dataclass(frozen=True)
class Asked:
    """All that `embed` was given in one call."""

    model: ModelSpec
    texts: list[str]
    dimensions: int | None
    input_type: str
    timeout_seconds: float


class FakeProvider(Provider):
    """Record each call (`calls`: its texts, `asked`: all of it); raise `fault`, wait for `gate` if one is set.

    With another `variant` it gives other vectors, as another model behind the same name would.
    """

    specs: tuple[ModelSpec, ...] = ()
    takes_prompts = True

    def __init__(self):
        self.calls = []
        self.asked = []
        self.fault = None
        self.gate = None
        self.variant = ""
        self.entered = threading.Semaphore(0)

    @classmethod
    def from_settings(cls, options):
        return cls()

    def models(self):
        return self.specs

    def tokenizer(self, model):
        return WordTokenizer()

    def embed(self, model, texts, *, dimensions, input_type, timeout_seconds):
        self.calls.append(list(texts))
        self.asked.append(
            Asked(model, list(texts), dimensions, input_type, timeout_seconds)
        )
        self.entered.release()
        if self.gate:
            assert self.gate.wait(20)
        if self.fault:
            raise self.fault
        size = dimensions or model.dimensions
        rows = [
            vector_of(self.variant + text, size)
            for text in model.prompted(texts, input_type)
        ]
        return Embedded(vectors=np.stack(rows))


class FakeOpenAI(FakeProvider):
    """Lists OpenAI's models, sizes them natively; not configured until a test says so."""

    name = "openai"
    specs = (
        ModelSpec(
            name="text-embedding-3-small",
            dimensions=16,
            max_tokens=50,
            vector_space="openai/text-embedding-3-small",
            native_dimensions=range(1, 17),
        ),
        ModelSpec(
            name="text-embedding-ada-002",
            dimensions=12,
            max_tokens=50,
            vector_space="openai/text-embedding-ada-002",
        ),
    )

    def __init__(self):
        super().__init__()
        self.problem: str | None = "OPENAI_API_KEY is not set."

    def configuration_problem(self):
        return self.problem


class FakeLocal(FakeProvider):
    """Holds the default local model; `problem` is why it cannot be served."""

    local = True
    problem: str | None = None
    specs: tuple[ModelSpec, ...] = (
        ModelSpec(
            name=MINILM,
            dimensions=8,
            max_tokens=10,
            vector_space=MINILM,
            aliases=("all-MiniLM-L6-v2",),
            method="fp32",
        ),
    )

    def loaded(self, model):
        return bool(self.calls)

    def downloaded(self, model):
        return True

    def serving(self, model):
        return Serving(
            runtime="graph", device="cpu", verified="self", problem=self.problem
        )

    def download(self, name):
        spec = self.resolve(name)
        if spec is None:
            raise UnknownModel(f"There is no model {name}.")
        return Download(model=spec, path=Path("/models/minilm"), size_bytes=123)


class FakeHuggingFace(FakeLocal):
    name = "huggingface"


class FakeOnnx(FakeLocal):
    name = "onnx"
    specs = (
        *FakeLocal.specs,
        ModelSpec(
            name="only-onnx",
            dimensions=8,
            max_tokens=10,
            vector_space="only-onnx",
            aliases=("only", "commonly"),
            common_names=("commonly",),
            method="int8-static",
            card=ModelCard(
                parameters=1000,
                download_bytes=4000,
                disk_bytes=9000,
                memory_bytes=4000,
                licence="mit",
                languages="en",
                pooling="mean",
                matryoshka=(4, 8),
                query_prompt="ask: ",
                gated=True,
            ),
        ),
        ModelSpec(
            name="prompted",
            dimensions=8,
            max_tokens=10,
            vector_space="prompted",
            method="fp32",
            query_prompt="search for: ",
            document_prompt="text of a passage: ",
        ),
    )
