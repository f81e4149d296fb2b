"""Models in memory: loaded when first asked for, once however many threads ask, shared by all plug-ins of a process.

A model that nobody used for a while is unloaded, and so is the one unused for longest where another needs its room.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from providers.base import Precision, Vectors
from providers.engine.batcher import QUEUE_TOKENS, Batcher
from providers.engine.files import Manifest
from providers.engine.machine import usable_cores, usable_memory
from providers.engine.runtime import Row
from providers.engine.tokenizer import TOKENIZER_FILE, ModelTokenizer
from providers.engine.verification import open_proved
from providers.engine.weights import Prepared, Weights
from providers.exceptions import Overloaded, ProviderMisconfigured, VectorsDiffer
from providers.metrics import observed

_SHARE_OF_MEMORY = 0.6
_RETRY_WHEN_FULL_SECONDS = 5.0
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """One model ready to run."""

    prepared: Prepared
    precision: Precision
    tokenizer: ModelTokenizer
    batcher: Batcher
    size_bytes: int

    def embed(self, rows: Sequence[Row], *, timeout_seconds: float) -> Vectors:
        """Return float32 (len(rows), dimensions) in the order of `rows`. Raises ProviderError."""
        return self.batcher.submit(rows, deadline=time.monotonic() + timeout_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """What the models of one process may take. None: all cores; most of the machine's memory; for ever.

    `queue_tokens` is per model.
    """

    threads: int | None = None
    queue_tokens: int = QUEUE_TOKENS
    memory_bytes: int | None = None
    idle_seconds: float | None = None


class Pool:
    """The loaded models of one process. A forked child starts empty: engine threads do not survive a fork."""

    def __init__(self, weights: Weights, limits: PoolLimits | None = None) -> None:
        self._weights = weights
        self._limits = limits or PoolLimits()
        self._watcher: threading.Thread | None = None
        self._start_afresh()
        _pools.add(self)

    def model(self, name: str, precision: Precision = "exact") -> LoadedModel:
        """Return the model, loading it on first use. Raises ProviderError, above all where it is not prepared."""
        loaded = self._models.get((name, precision))
        if loaded is not None:
            return loaded
        # One lock per name: other models load and serve meanwhile.
        with self._loading_lock(name):
            if (loaded := self._models.get((name, precision))) is None:
                loaded = self._load(name, precision)
                with self._lock:
                    self._models[name, precision] = loaded
                    self._models[name, loaded.precision] = loaded
        self._watch_idle()
        return loaded

    def tokenizer(self, name: str) -> ModelTokenizer:
        """Return the model's tokenizer; its weights are loaded only where they are needed for that (torch)."""
        known = self._tokenizers.get(name)
        if known is not None:
            return known
        if (prepared := self._weights.find(name)) and prepared.runtime == "torch":
            return self.model(name).tokenizer
        with self._loading_lock(name):
            if name not in self._tokenizers:
                prepared = self._weights.verified(name, only=TOKENIZER_FILE)
                self._tokenizers[name] = prepared.tokenizer()
            return self._tokenizers[name]

    def loaded(self, name: str, precision: Precision) -> bool:
        """Tell whether the model is in memory."""
        return (name, precision) in self._models

    def refusal(self, name: str, precision: Precision) -> str | None:
        """Return why a model failed its check when it was loaded, until it is prepared again."""
        refused = self._refused.get((name, precision))
        if refused is None:
            return None
        prepared = self._weights.find(name)
        return refused[1] if prepared and prepared.manifest == refused[0] else None

    def healthy(self) -> bool:
        """Tell whether every loaded model's engine runs."""
        states = [model.batcher.healthy() for model in self._all()]
        return all(states)

    def follow(self, name: str, manifest: Manifest) -> None:
        """Drop what is in memory of a model that was prepared again since, here or by another process."""
        if self._seen.get(name, manifest) != manifest:
            self.forget(name)
        self._seen[name] = manifest

    def forget(self, name: str) -> None:
        """Drop a model from memory, after its files were replaced; requests under way fail over."""
        with self._lock:
            self._tokenizers.pop(name, None)
        for model in self._all():
            if model.prepared.name == name:
                self._unload(model)

    def unload_idle(self) -> None:
        """Drop the models that were idle for longer than the limit."""
        limit = self._limits.idle_seconds
        for model in self._all():
            if limit is not None and model.batcher.close_if_idle(limit):
                self._unload(model)

    def close(self) -> None:
        """Stop all engines. The pool can be used again and loads anew."""
        with self._lock:
            self._closing.set()
            self._watcher = None
        for model in self._all():
            self.forget(model.prepared.name)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._models: dict[tuple[str, Precision], LoadedModel] = {}
        self._tokenizers: dict[str, ModelTokenizer] = {}
        self._seen: dict[str, Manifest] = {}
        self._refused: dict[tuple[str, Precision], tuple[Manifest, str]] = {}
        self._watcher = None
        self._closing = threading.Event()

    def _loading_lock(self, name: str) -> threading.Lock:
        with self._lock:
            return self._loading.setdefault(name, threading.Lock())

    def _all(self) -> list[LoadedModel]:
        """Return every loaded model once, those idle for longest first."""
        with self._lock:
            models = {id(model): model for model in self._models.values()}
        return sorted(models.values(), key=lambda model: -model.batcher.idle_seconds())

    def _unload(self, model: LoadedModel) -> None:
        with self._lock:
            self._models = {
                key: other for key, other in self._models.items() if other is not model
            }
        model.batcher.close()

    def _load(self, name: str, precision: Precision) -> LoadedModel:
        if refusal := self.refusal(name, precision):
            raise VectorsDiffer(refusal)  # to load it again would end the same way
        prepared = self._weights.verified(name)
        if precision not in prepared.precisions:
            precision = "exact"
            if same := self._models.get((name, precision)):
                return same
        size = prepared.weights_bytes(fast=precision == "fast")
        self._make_room(name, size)
        cores = self._limits.threads or usable_cores()
        try:
            opened = open_proved(
                prepared,
                precision,
                threads=cores,
                tokenizer=self._tokenizers.get(name),
            )
        except VectorsDiffer as error:
            self._refused[name, precision] = (prepared.manifest, error.message)
            raise
        self._tokenizers[name] = opened.tokenizer
        # torch takes all cores by itself, and its tokenizer but one caller at a time.
        torch = prepared.runtime == "torch"
        batcher = Batcher(
            opened.runtime,
            queue_tokens=self._limits.queue_tokens,
            bulk_lanes=1 if torch else cores,
            express=not torch,
            observe=observed,
        )
        return LoadedModel(
            prepared=prepared,
            precision=precision,
            tokenizer=opened.tokenizer,
            batcher=batcher,
            size_bytes=size,
        )

    def _make_room(self, name: str, size_bytes: int) -> None:
        """Unload models that do nothing, until another of this size fits. Raises ProviderError where it cannot."""
        limit = self._limits.memory_bytes or int(usable_memory() * _SHARE_OF_MEMORY)
        if size_bytes > limit:
            raise ProviderMisconfigured(
                f"{name} takes about {size_bytes // _MEBIBYTE} MB, and all models together may take "
                f"{limit // _MEBIBYTE} MB: raise EMBEDDINGS_MODELS_MAX_MB."
            )
        models = self._all()
        taken = sum(model.size_bytes for model in models)
        for model in models:
            if taken + size_bytes <= limit:
                return
            if model.batcher.close_if_idle(0):
                self._unload(model)
                taken -= model.size_bytes
        if taken + size_bytes > limit:
            raise Overloaded(
                "Models at work take all the memory that models may take (EMBEDDINGS_MODELS_MAX_MB).",
                retry_after_seconds=_RETRY_WHEN_FULL_SECONDS,
            )

    def _watch_idle(self) -> None:
        """Have a thread unload idle models from now on."""
        idle_seconds = self._limits.idle_seconds
        if idle_seconds is None:
            return
        with self._lock:
            if self._watcher is None:
                self._closing = threading.Event()
                self._watcher = threading.Thread(
                    target=_watch,
                    args=[weakref.ref(self), self._closing, idle_seconds / 4],
                    name="engine-idle",
                    daemon=True,
                )
                self._watcher.start()


def _watch(
    pool: Callable[[], Pool | None], closing: threading.Event, every_seconds: float
) -> None:
    """Unload what is idle until the pool closes or is gone."""
    while not closing.wait(every_seconds):
        if (alive := pool()) is None:
            return
        alive.unload_idle()
        del alive


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


def _reset_after_fork() -> None:
    for pool in list(_pools):
        pool._start_afresh()


os.register_at_fork(after_in_child=_reset_after_fork)
