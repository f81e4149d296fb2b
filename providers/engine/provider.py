"""What the local plug-ins share: a catalogue, the models on disk, one pool of loaded models per process."""

import threading
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from providers.engine.batcher import QUEUE_TOKENS
from providers.engine.hub import HUB_ENDPOINT, Hub
from providers.engine.listed_models import LISTED_MODELS, aliases_of, with_free_aliases
from providers.engine.model_config import ModelConfig, read_model_config
from providers.engine.pool import LoadedModel, Pool, PoolLimits
from providers.engine.reference import sentence_transformers
from providers.engine.runtime import Row, rows_of
from providers.engine.weights import Prepared, Weights, not_prepared
from providers.exceptions import (
    EngineClosed,
    ModelReplaced,
    ProviderMisconfigured,
    TextsTooLong,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the local engine is set up; two plug-ins with equal options share one engine."""

    data_dir: Path
    hub_endpoint: str = HUB_ENDPOINT
    hub_token: str | None = None
    threads: int | None = None
    queue_max_tokens: int = QUEUE_TOKENS
    models_max_bytes: int | None = None
    model_idle_seconds: float | None = None
    model_paths: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Engine:
    """The models on disk and those in memory."""

    weights: Weights
    pool: Pool


_engines: dict[EngineOptions, Engine] = {}
_engines_lock = threading.Lock()


def engine_of(options: EngineOptions) -> Engine:
    """Return the process's engine for these options, made on first use. Nothing is loaded or read from disk."""
    with _engines_lock:
        if options not in _engines:
            hub = Hub(endpoint=options.hub_endpoint, token=options.hub_token)
            weights = Weights(
                options.data_dir,
                hub=hub,
                model_paths=options.model_paths,
                reference=sentence_transformers,
            )
            limits = PoolLimits(
                threads=options.threads,
                queue_tokens=options.queue_max_tokens,
                memory_bytes=options.models_max_bytes,
                idle_seconds=options.model_idle_seconds,
            )
            _engines[options] = Engine(weights, Pool(weights, limits))
        return _engines[options]


class LocalProvider(Provider):
    """A provider that computes here. Derived classes add a name and how exactly they compute."""

    local: ClassVar[bool] = True
    takes_prompts: ClassVar[bool] = True
    precision: ClassVar[Precision] = "exact"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._listed: tuple[Hashable, list[ModelSpec]] | None = None

    @classmethod
    def from_settings(cls, options: Mapping[str, Any]) -> Self:
        """Take the keys of EngineOptions; only `data_dir` is required, None means the default."""
        given = {key: value for key, value in options.items() if value is not None}
        return cls(engine_of(EngineOptions(**given)))

    def models(self) -> Iterable[ModelSpec]:
        """Return the catalogue, then whatever else is prepared or lies in the operator's folders."""
        state = self.engine.weights.state()
        if self._listed is None or self._listed[0] != state:
            self._listed = (state, with_free_aliases(self._list()))
        return list(self._listed[1])

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
        try:
            vectors = self._run(model, texts, input_type, timeout_seconds)
        except EngineClosed:  # its files were replaced just now
            vectors = self._run(model, texts, input_type, timeout_seconds)
        return Embedded(vectors=vectors)

    def _run(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        input_type: InputType,
        timeout_seconds: float,
    ) -> Vectors:
        deadline = time.monotonic() + timeout_seconds
        lent = self.engine.pool.using(
            model.name, self.precision, timeout_seconds=timeout_seconds
        )
        with lent as loaded:
            if not model.revision.startswith(
                _revision(loaded.prepared, self.precision)
            ):
                raise ModelReplaced(
                    f"The files of {model.name} changed just now; ask again.",
                    retry_after_seconds=1.0,
                )
            rows = _rows(loaded, model, texts, input_type)
            return loaded.batcher.submit(rows, deadline=deadline)

    def tokenizer(self, model: ModelSpec) -> Tokenizer | None:
        """Return the model's tokenizer. Raises ProviderMisconfigured where the model is not prepared."""
        return self.engine.pool.tokenizer(model.name)

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
        return self.engine.pool.loaded(model.name, self.precision)

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
            verified=proof.verified if proof else None,
            problem=self.engine.pool.refusal(model.name, self.precision)
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
        self.engine.pool.follow(full_name, prepared.manifest)
        return Download(
            model=self._spec(prepared),
            path=prepared.path,
            size_bytes=prepared.manifest.size_bytes,
        )

    def healthy(self) -> bool:
        """Whether the engine of every loaded model runs."""
        return self.engine.pool.healthy()

    def close(self) -> None:
        """Stop the engine."""
        self.engine.pool.close()

    def _list(self) -> list[ModelSpec]:
        listed = {spec.name: spec for spec in LISTED_MODELS}
        for name, folder in self.engine.weights.local_folders().items():
            try:
                listed[name] = _spec(name, read_model_config(folder))
            except ProviderMisconfigured:
                continue  # not a model: any folder may lie there
        for name in self.engine.weights.prepared_names():
            prepared = self.engine.weights.find(name)
            if prepared is not None:
                self.engine.pool.follow(name, prepared.manifest)
                listed[name] = self._spec(prepared)
        return list(listed.values())

    def _spec(self, prepared: Prepared) -> ModelSpec:
        return replace(
            _spec(prepared.name, prepared.config),
            revision=_revision(prepared, self.precision),
            method=prepared.method(self.precision),
        )


def _spec(name: str, config: ModelConfig) -> ModelSpec:
    return ModelSpec(
        name=name,
        dimensions=config.dimensions,
        max_tokens=config.max_tokens,
        vector_space=name,
        aliases=aliases_of(name),
        query_prompt=config.prompt("query"),
        document_prompt=config.prompt("document"),
    )


def _revision(prepared: Prepared, precision: Precision) -> str:
    """Return what changes whenever the model's vectors do; a registry may append to it what operators changed."""
    return f"{prepared.revision}.{prepared.method(precision)}"


def _rows(
    loaded: LoadedModel,
    model: ModelSpec,
    texts: Sequence[str],
    input_type: InputType,
) -> list[Row]:
    """Tokenise texts with the prompt before each. Raises TextsTooLong."""
    rows = rows_of(
        loaded.tokenizer,
        texts,
        model.prompt(input_type),
        pooled=loaded.prepared.config.include_prompt,
    )
    _refuse_too_long(rows, texts, loaded)
    return rows


def _refuse_too_long(
    rows: Sequence[Row], texts: Sequence[str], loaded: LoadedModel
) -> None:
    """Refuse what the service let pass: text beyond a slice is counted there in pieces, and files may have changed."""
    limit = loaded.prepared.config.max_tokens
    if limit is None:
        return
    sized = zip(texts, rows, strict=True)
    over = {text: len(row) for text, row in sized if len(row) > limit}
    if over:
        name = loaded.prepared.name
        raise TextsTooLong(model=name, max_tokens=limit, tokens=over)
