"""What the local plug-ins share: a catalogue, the models on disk, one pool of loaded models per process."""

import os
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from providers.base import (
    Download,
    Embedded,
    InputType,
    ModelSpec,
    Precision,
    Provider,
    Serving,
    Tokenizer,
    Vectors,
)
from providers.engine import archives
from providers.engine.archives import Archive
from providers.engine.inference import EngineState, Inference, Work, revision_of
from providers.engine.listed_models import catalogue, described, with_free_aliases
from providers.engine.model_config import ModelConfig, read_model_config
from providers.engine.options import EngineMode, EngineOptions, limits_of, weights_of
from providers.engine.pool import Pool
from providers.engine.prepared import Prepared, not_prepared
from providers.engine.process import place
from providers.engine.process.engine_client import EngineClient
from providers.engine.tokenizers import Tokenizers
from providers.engine.weights import Weights
from providers.exceptions import (
    EngineClosed,
    EngineNotServed,
    ProviderMisconfigured,
)

# A tokenizer.json takes ten times its size in memory: one of a large vocabulary is in the engine process alone.
MOST_TOKENIZER_BYTES = 2**22


class Engine:
    """The models on disk, and what runs them: this process, or the engine process where one is.

    `tokenizers`: those of an engine process's clients. Processes that are forked share what was read before.
    """

    def __init__(
        self, weights: Weights, pool: Pool, *, process: EngineMode = "inline"
    ) -> None:
        self.weights = weights
        self.pool = pool
        self.tokenizers = Tokenizers(weights, most_bytes=MOST_TOKENIZER_BYTES)
        self._process = process
        self._chosen: tuple[int, Inference] | None = None

    @property
    def inference(self) -> Inference:
        """What runs models for this process, chosen when it is first asked for."""
        process, chosen = os.getpid(), self._chosen
        if chosen is None or chosen[0] != process:
            chosen = self._chosen = (process, self._choose())
        return chosen[1]

    def run(self, work: Work, *, timeout_seconds: float) -> Vectors:
        """See `Inference.run`. Where the server has ended that had the engine process, this process runs it itself."""
        try:
            return self.inference.run(work, timeout_seconds=timeout_seconds)
        except EngineNotServed:
            if self._process != "auto":
                raise
            self._chosen = None
            return self.inference.run(work, timeout_seconds=timeout_seconds)

    def _choose(self) -> Inference:
        if self._process == "inline":
            return self.pool
        path = place.recorded(self.weights.data_dir)
        if self._process == "process" or place.listens(path):
            return EngineClient(path, self.tokenizers)
        return self.pool


_engines: dict[EngineOptions, Engine] = {}
_engines_lock = threading.Lock()


def engine_of(options: EngineOptions) -> Engine:
    """Return the process's engine for these options, made on first use. Nothing is loaded or read from disk."""
    with _engines_lock:
        if options not in _engines:
            weights = weights_of(options)
            pool = Pool(weights, limits_of(options))
            _engines[options] = Engine(weights, pool, process=options.process)
        return _engines[options]


def engine_states() -> list[EngineState]:
    """Return how the engines are that this process uses, each once."""
    with _engines_lock:
        engines = [*_engines.values()]
    states = [engine.inference.state() for engine in engines]
    return [state for state in states if state is not None]


class LocalProvider(Provider):
    """A provider that computes here. Derived classes add a name and how exactly they compute."""

    local: ClassVar[bool] = True
    takes_prompts: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    precision: ClassVar[Precision] = "exact"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._listed: tuple[Hashable, list[ModelSpec]] | None = None

    @classmethod
    def from_settings(cls, options: Mapping[str, Any]) -> Self:
        """Take the keys of EngineOptions."""
        return cls(engine_of(EngineOptions.of(options)))

    def models(self) -> Iterable[ModelSpec]:
        """Return the catalogue, then whatever else is prepared or lies in the operator's folders."""
        state = self.engine.weights.state()
        if self._listed is None or self._listed[0] != state:
            self._listed = (state, with_free_aliases(self._list()))
        return list(self._listed[1])

    def resolve(self, name: str) -> ModelSpec | None:
        """Return the model of that name, else of that alias, else of that common name."""
        listed = super().resolve(name)
        if listed is not None:
            return listed
        return next((one for one in self.models() if name in one.common_names), None)

    def embed(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        *,
        dimensions: int | None,
        input_type: InputType,
        timeout_seconds: float,
    ) -> Embedded:
        """Embed texts with the model's prompt before each. Raises TextsTooLong."""
        work = Work(
            model=model.name,
            precision=self.precision,
            revision=model.revision,
            texts=texts,
            prompt=model.prompt(input_type),
        )
        try:
            vectors = self.engine.run(work, timeout_seconds=timeout_seconds)
        except EngineClosed:  # its files were replaced just now
            vectors = self.engine.run(work, timeout_seconds=timeout_seconds)
        return Embedded(vectors=vectors)

    def tokenizer(self, model: ModelSpec) -> Tokenizer | None:
        """Return the model's tokenizer. Raises ProviderMisconfigured where the model is not prepared."""
        return self.engine.inference.tokenizer(model.name)

    def warm_up(self, model: ModelSpec, *, timeout_seconds: float) -> None:
        """Load the model and run it once, so that the next request finds everything in place."""
        self.embed(
            model,
            ["warm up"],
            dimensions=None,
            input_type="document",
            timeout_seconds=timeout_seconds,
        )

    def loaded(self, model: ModelSpec) -> bool | None:
        """Whether the weights are in memory."""
        return self.engine.inference.loaded(model.name, self.precision)

    def downloaded(self, model: ModelSpec) -> bool | None:
        """Whether the model is prepared; hashes are compared when it is loaded."""
        return self.engine.weights.find(model.name) is not None

    def serving(self, model: ModelSpec) -> Serving | None:
        """Return how the model is served here, and why not where it is not."""
        prepared = self.engine.weights.find(model.name)
        if prepared is None:
            return Serving(problem=not_prepared(model.name))
        proof = prepared.manifest.proof
        return Serving(
            runtime=prepared.runtime,
            device=str(prepared.device),
            verified=proof.verified if proof else None,
            memory_bytes=prepared.weights_bytes(fast=self.precision == "fast"),
            needs_torch=prepared.manifest.note,
            problem=self.engine.inference.refusal(model.name, self.precision)
            or prepared.problem,
        )

    def outdated(self) -> list[str]:
        """Return the models that an older version prepared. To prepare them again takes no network."""
        return self.engine.weights.outdated()

    def download(self, name: str) -> Download:
        """Fetch and prepare a model by name or alias. Raises ProviderError."""
        listed = self.resolve(name)
        full_name = listed.name if listed else name
        prepared = self.engine.weights.prepare(full_name)
        self.engine.inference.follow(full_name, prepared.manifest)
        return Download(
            model=self._spec(prepared),
            path=prepared.path,
            size_bytes=prepared.manifest.size_bytes,
        )

    def export_model(self, name: str, target: Path) -> Archive:
        """Write a prepared model, by name or alias, to a file. Raises ProviderMisconfigured."""
        listed = self.resolve(name)
        return archives.export_model(
            self.engine.weights, listed.name if listed else name, target
        )

    def import_model(self, source: Path) -> Archive:
        """Take in a model that `export_model` wrote. Raises ProviderMisconfigured."""
        archive = archives.import_model(self.engine.weights, source)
        prepared = archive.prepared
        self.engine.inference.follow(prepared.name, prepared.manifest)
        return archive

    def healthy(self) -> bool:
        """Whether the engine of every loaded model runs."""
        return self.engine.inference.healthy()

    def close(self) -> None:
        """Stop the engine."""
        self.engine.inference.close()

    def _list(self) -> list[ModelSpec]:
        listed = dict(catalogue())
        for name, folder in self.engine.weights.local_folders().items():
            try:
                spec = _spec(name, read_model_config(folder))
                listed[name] = described(spec, prepared=False)
            except ProviderMisconfigured:
                continue  # not a model: any folder may lie there
        for name in self.engine.weights.prepared_names():
            prepared = self.engine.weights.find(name)
            if prepared is not None:
                self.engine.inference.follow(name, prepared.manifest)
                listed[name] = self._spec(prepared)
        return list(listed.values())

    def _spec(self, prepared: Prepared) -> ModelSpec:
        return replace(
            described(_spec(prepared.name, prepared.config), prepared=True),
            revision=revision_of(prepared, self.precision),
            method=prepared.method(self.precision),
        )


def _spec(name: str, config: ModelConfig) -> ModelSpec:
    return ModelSpec(
        name=name,
        dimensions=config.dimensions,
        max_tokens=config.max_tokens,
        vector_space=name,
        query_prompt=config.prompt("query"),
        document_prompt=config.prompt("document"),
    )
