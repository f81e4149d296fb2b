"""Models in memory: loaded when first asked for, once however many threads ask, shared by all plug-ins of a process.

A model that nobody used for a while is unloaded. How models share the memory they may take is decided in memory.py.
"""

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, get_args

from providers.base import Precision, Vectors
from providers.engine import run_sizes
from providers.engine.batcher import (
    QUEUE_TOKENS,
    Batcher,
)
from providers.engine.files import Manifest
from providers.engine.inference import EngineState, Work, checked_rows, revision_of
from providers.engine.machine import (
    memory_in_use,
    trim_heap,
    usable_cores,
)
from providers.engine.memory import SLICE_SECONDS, ModelMemory
from providers.engine.prepared import Prepared
from providers.engine.runtime import Row
from providers.engine.tokenizer import ModelTokenizer
from providers.engine.tokenizers import Tokenizers
from providers.engine.verification import open_proved
from providers.engine.weights import Weights
from providers.exceptions import (
    ModelReplaced,
    ProviderMisconfigured,
    VectorsDiffer,
)
from providers.metrics import batches_of, observed

_MEBIBYTE = 1 << 20
# How long who names no time waits for a model's turn to be in memory.
_WAIT_SECONDS = 60.0


class _Key(NamedTuple):
    """What is loaded: a model without a fast class has but the exact one."""

    name: str
    precision: Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """One model ready to run."""

    prepared: Prepared
    precision: Precision
    tokenizer: ModelTokenizer
    batcher: Batcher


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """What the models of one process may take. None: all cores; most of the machine's memory; for ever.

    `queue_tokens` is per model. A model that another waits for takes no new requests after `slice_seconds`.
    """

    threads: int | None = None
    queue_tokens: int = QUEUE_TOKENS
    memory_bytes: int | None = None
    idle_seconds: float | None = None
    slice_seconds: float = SLICE_SECONDS


class Pool:
    """The loaded models of one process. A forked child starts empty: engine threads do not survive a fork."""

    def __init__(
        self,
        weights: Weights,
        limits: PoolLimits | None = None,
        *,
        on_hung: Callable[[], None] | None = None,
    ) -> None:
        """`on_hung` is called where a thread hangs in a run; without it, another takes its place."""
        self._weights = weights
        self._limits = limits or PoolLimits()
        self._on_hung = on_hung
        self._watcher: threading.Thread | None = None
        self._start_afresh()
        _pools.add(self)

    @contextmanager
    def using(
        self,
        name: str,
        precision: Precision = "exact",
        *,
        timeout_seconds: float = _WAIT_SECONDS,
    ) -> Iterator[LoadedModel]:
        """Lend the model, loaded on first use; it stays in memory meanwhile, unless its files are replaced.

        Where others hold the memory it waits for up to `timeout_seconds`. Raises ProviderError: above all
        ProviderMisconfigured where the model is not prepared or too large, and Overloaded where no memory was freed in
        time.
        """
        key = self._key(name, precision)
        lent = self._memory.using(
            key,
            partial(self._size_bytes, key),
            lambda: self._load(*key),
            timeout_seconds=timeout_seconds,
        )
        with lent as model:
            self._watch_idle()
            yield model

    def model(
        self,
        name: str,
        precision: Precision = "exact",
        *,
        timeout_seconds: float = _WAIT_SECONDS,
    ) -> LoadedModel:
        """Return the model as `using` lends it; from now on it may be unloaded at any time."""
        with self.using(name, precision, timeout_seconds=timeout_seconds) as model:
            return model

    def run(
        self,
        work: Work,
        *,
        timeout_seconds: float,
        rows: Sequence[Row] | None = None,
    ) -> Vectors:
        """See `Inference.run`. `rows` are the texts, tokenised already.

        Raises ModelReplaced where the files on disk are not of the revision that the caller knows.
        """
        deadline = time.monotonic() + timeout_seconds
        for again in (False, True):
            lent = self.using(
                work.model, work.precision, timeout_seconds=timeout_seconds
            )
            with lent as loaded:
                manifest = loaded.prepared.manifest
                revision = revision_of(loaded.prepared, work.precision)
                if work.revision.startswith(revision):
                    if rows is None:
                        rows = checked_rows(
                            loaded.prepared, loaded.tokenizer, work.texts, work.prompt
                        )
                    return loaded.batcher.submit(rows, deadline=deadline)
            del loaded
            # They may have been replaced since they were loaded.
            if again or self._prepared(work.model).manifest == manifest:
                break
            self.forget(work.model)
        raise ModelReplaced(
            f"The files of {work.model} changed just now; ask again.",
            retry_after_seconds=1.0,
        )

    def tokenizer(self, name: str) -> ModelTokenizer:
        """Return the model's tokenizer; its weights are loaded only where they are needed for that (torch)."""
        read = self._tokenizers.get(name)
        return read.tokenizer if read else self.model(name).tokenizer

    def loaded(self, name: str, precision: Precision) -> bool:
        """Whether the model is in memory."""
        return self._keys.get((name, precision)) in self._memory.contents()

    def loaded_models(self) -> list[tuple[str, Precision]]:
        """Return what is in memory, by each name and class that was asked for."""
        contents = self._memory.contents()
        return [asked for asked, key in [*self._keys.items()] if key in contents]

    def state(self) -> EngineState:
        """See `Inference.state`."""
        contents, sizes = self._memory.contents(), self._memory.sizes()
        return EngineState(
            pid=os.getpid(),
            up_seconds=time.monotonic() - self._began_at,
            memory_bytes=memory_in_use(),
            queued_tokens=sum(m.batcher.queued_tokens for m in contents.values()),
            loaded=[
                {
                    "model": name,
                    "precision": precision,
                    "size_bytes": sizes.get(self._keys[name, precision], 0),
                }
                for name, precision in self.loaded_models()
            ],
        )

    def refusals(self) -> list[tuple[str, Precision, str]]:
        """Return the models that failed their check, each with the reason."""
        found = [(*key, self.refusal(*key)) for key in [*self._refused]]
        return [(name, precision, why) for name, precision, why in found if why]

    def refusal(self, name: str, precision: Precision) -> str | None:
        """Return why a model failed its check when it was loaded, until it is prepared again."""
        refused = self._refused.get((name, precision))
        if refused is None:
            return None
        prepared = self._weights.find(name)
        return refused[1] if prepared and prepared.manifest == refused[0] else None

    def healthy(self) -> bool:
        """Whether every loaded model's engine runs."""
        states = [model.batcher.healthy() for model in self._memory.contents().values()]
        return all(states)

    def follow(self, name: str, manifest: Manifest) -> None:
        """Drop what is in memory of a model that was prepared again since, here or by another process."""
        if self._tokenizers.replaced(name, manifest):
            self.forget(name)

    def forget(self, name: str) -> None:
        """Drop a model from memory, after its files were replaced; requests under way fail over."""
        self._tokenizers.forget(name)
        for precision in get_args(Precision):
            if model := self._memory.drop(_Key(name, precision)):
                model.batcher.close()
                del model
                _free()

    def unload_idle(self) -> None:
        """Drop the models that were idle for longer than the limit."""
        if self._limits.idle_seconds is not None:
            self._memory.put_out_idle(self._limits.idle_seconds)

    def close(self) -> None:
        """Stop all engines. The pool can be used again and loads again."""
        with self._lock:
            self._closing.set()
            self._watcher = None
        for key in self._memory.contents():
            self.forget(key.name)

    def _start_afresh(self) -> None:
        self._began_at = time.monotonic()
        self._lock = threading.Lock()
        self._memory: ModelMemory[_Key, LoadedModel] = ModelMemory(
            self._limit_bytes,
            put_out=lambda model, seconds: model.batcher.close_if_idle(seconds),
            let_go=_free,
            slice_seconds=self._limits.slice_seconds,
        )
        self._keys: dict[tuple[str, Precision], _Key] = {}
        self._tokenizers = Tokenizers(self._weights)
        self._refused: dict[tuple[str, Precision], tuple[Manifest, str]] = {}
        self._watcher = None
        self._closing = threading.Event()

    def _key(self, name: str, precision: Precision) -> _Key:
        """Return under which key the model is loaded, the exact one where it has no fast class."""
        key = self._keys.get((name, precision))
        if key is None or key not in self._memory:
            prepared = self._prepared(name)
            has = precision == "fast" and prepared.fast_file is not None
            key = _Key(name, "fast" if has else "exact")
            with self._lock:
                self._keys[name, precision] = key
        return key

    def _prepared(self, name: str) -> Prepared:
        """Return what is on disk, unread. Raises ProviderMisconfigured where it is not prepared."""
        return self._weights.find(name) or self._weights.verified(name)

    def _size_bytes(self, key: _Key) -> int:
        """Return what the model takes. Raises ProviderMisconfigured where that is more than all may take."""
        size = self._prepared(key.name).weights_bytes(fast=key.precision == "fast")
        limit = self._limit_bytes()
        if size > limit:
            raise ProviderMisconfigured(
                f"{key.name} takes about {size // _MEBIBYTE} MB, and all models together may take "
                f"{limit // _MEBIBYTE} MB: raise EMBEDDINGS_MODELS_MAX_MB."
            )
        return size

    def _load(self, name: str, precision: Precision) -> LoadedModel:
        if refusal := self.refusal(name, precision):
            raise VectorsDiffer(refusal)  # to load it again would end the same way
        prepared = self._weights.verified(name)
        if precision not in prepared.precisions:
            precision = "exact"
        cores = self._limits.threads or usable_cores()
        try:
            opened = open_proved(
                prepared,
                precision,
                threads=cores,
                tokenizer=self._tokenizers.known(name),
                memory_for_wide=partial(
                    self._memory.grow,
                    _Key(name, precision),
                    prepared.weights_bytes(fast=precision == "fast"),
                ),
            )
        except VectorsDiffer as error:
            self._refused[name, precision] = (prepared.manifest, error.message)
            raise
        self._tokenizers.keep(prepared, opened.tokenizer)
        # torch takes all cores by itself, and its tokenizer but one caller at a time.
        torch = prepared.runtime == "torch"
        note_queued, note_batch = batches_of(name)
        batcher = Batcher(
            opened.runtime,
            queue_tokens=self._limits.queue_tokens,
            square_tokens=run_sizes.square_tokens(prepared),
            batch_tokens=run_sizes.batch_tokens(prepared),
            bulk_lanes=1 if torch or self._weights.device.is_cuda else cores,
            express=not torch,
            on_hung=self._on_hung,
            observe=observed,
            note_queued=note_queued,
            note_batch=note_batch,
        )
        return LoadedModel(
            prepared=prepared,
            precision=precision,
            tokenizer=opened.tokenizer,
            batcher=batcher,
        )

    def _limit_bytes(self) -> int:
        """Return what all models together may take."""
        return self._limits.memory_bytes or run_sizes.models_bytes(self._weights.device)

    def _watch_idle(self) -> None:
        """Have a thread unload idle models from now on."""
        idle_seconds = self._limits.idle_seconds
        if idle_seconds is None or self._watcher is not None:
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


def _free() -> None:
    """Have the memory of a model that was just dropped go back to the system."""
    if "torch" in sys.modules:  # its modules refer to each other in circles
        gc.collect()
    trim_heap()


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
