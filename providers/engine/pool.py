"""Models in memory: loaded when first asked for, once however many threads ask, shared by all plug-ins of a process."""

import os
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from providers.base import Vectors
from providers.engine.batcher import QUEUE_TOKENS, Batcher
from providers.engine.onnx_runtime import OnnxRuntime, usable_cores
from providers.engine.runtime import Row, Runtime
from providers.engine.tokenizer import ModelTokenizer
from providers.engine.torch_runtime import TorchRuntime
from providers.engine.weights import Prepared, Weights
from providers.metrics import observed

_TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """One model ready to run."""

    prepared: Prepared
    tokenizer: ModelTokenizer
    batcher: Batcher

    def embed(self, rows: Sequence[Row], *, timeout_seconds: float) -> Vectors:
        """Return float32 (len(rows), dimensions) in the order of `rows`. Raises ProviderError."""
        return self.batcher.submit(rows, deadline=time.monotonic() + timeout_seconds)


class Pool:
    """The loaded models of one process. A forked child starts empty: engine threads do not survive a fork."""

    def __init__(
        self,
        weights: Weights,
        *,
        threads: int | None = None,
        queue_tokens: int = QUEUE_TOKENS,
    ) -> None:
        self._weights = weights
        self._threads = threads
        self._queue_tokens = queue_tokens
        self._start_afresh()
        _pools.add(self)

    def model(self, name: str) -> LoadedModel:
        """Return the model, loading it on first use. Raises ProviderError, above all where it is not prepared."""
        loaded = self._models.get(name)
        if loaded is not None:
            return loaded
        with self._lock:
            loading = self._loading.setdefault(name, threading.Lock())
        # One lock per name: other models load and serve meanwhile.
        with loading:
            if name not in self._models:
                model = self._load(name)
                with self._lock:
                    self._models[name] = model
            return self._models[name]

    def tokenizer(self, name: str) -> ModelTokenizer:
        """Return the model's tokenizer; its weights are loaded only where they are needed for that (torch)."""
        loaded = self._models.get(name)
        if loaded is not None:
            return loaded.tokenizer
        with self._lock:
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            if name not in self._tokenizers:
                prepared = self._weights.find(name)
                if prepared is not None and prepared.runtime == "torch":
                    model = self._models[name] = self._load(name)
                    self._tokenizers[name] = model.tokenizer
                else:
                    self._tokenizers[name] = _read_tokenizer(
                        self._weights.verified(name, only=_TOKENIZER_FILE)
                    )
            return self._tokenizers[name]

    def loaded(self, name: str) -> bool:
        """Tell whether the model is in memory."""
        return name in self._models

    def healthy(self) -> bool:
        """Tell whether every loaded model's engine runs."""
        return all(model.batcher.healthy() for model in list(self._models.values()))

    def forget(self, name: str) -> None:
        """Drop a model from memory, after its files were replaced; requests under way fail over."""
        with self._lock:
            model = self._models.pop(name, None)
            self._tokenizers.pop(name, None)
        if model is not None:
            model.batcher.close()

    def close(self) -> None:
        """Stop all engines. The pool can be used again and loads anew."""
        for name in list(self._models):
            self.forget(name)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._models: dict[str, LoadedModel] = {}
        self._tokenizers: dict[str, ModelTokenizer] = {}

    def _load(self, name: str) -> LoadedModel:
        prepared = self._weights.verified(name)
        threads = self._threads or usable_cores()
        if prepared.runtime == "torch":
            torch_runtime = TorchRuntime(prepared.path, threads=threads)
            return self._ready(
                prepared, torch_runtime.tokenizer(prepared.config), torch_runtime
            )
        tokenizer = self._tokenizers.get(name) or _read_tokenizer(prepared)
        return self._ready(
            prepared,
            tokenizer,
            OnnxRuntime(prepared.onnx_file, prepared.config, threads=threads),
        )

    def _ready(
        self, prepared: Prepared, tokenizer: ModelTokenizer, runtime: Runtime
    ) -> LoadedModel:
        batcher = Batcher(runtime, queue_tokens=self._queue_tokens, observe=observed)
        return LoadedModel(prepared=prepared, tokenizer=tokenizer, batcher=batcher)


def _read_tokenizer(prepared: Prepared) -> ModelTokenizer:
    return ModelTokenizer.from_file(
        prepared.path / _TOKENIZER_FILE, lower_case=prepared.config.lower_case
    )


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


def _reset_after_fork() -> None:
    for pool in list(_pools):
        pool._start_afresh()


os.register_at_fork(after_in_child=_reset_after_fork)
