"""Models that are listed before anything is downloaded. Figures are those of each model's own files on the hub."""

from collections.abc import Iterable
from dataclasses import replace

from providers.base import ModelSpec
from providers.engine.pins import DEFAULT_MODEL, MINILM


def _spec(name: str, dimensions: int, max_tokens: int, revision: str = "") -> ModelSpec:
    return ModelSpec(
        name=name,
        dimensions=dimensions,
        max_tokens=max_tokens,
        vector_space=name,
        aliases=aliases_of(name),
        revision=revision,
    )


def aliases_of(name: str) -> tuple[str, ...]:
    """Return the short names of a hub's model: what comes after its owner."""
    _, slash, short = name.partition("/")
    return (short,) if slash else ()


def with_free_aliases(specs: Iterable[ModelSpec]) -> list[ModelSpec]:
    """Leave out the aliases that are the name of another, or the alias of one before."""
    kept = list(specs)
    taken = {spec.name for spec in kept}
    for index, spec in enumerate(kept):
        free = tuple(alias for alias in spec.aliases if alias not in taken)
        taken.update(free)
        kept[index] = replace(spec, aliases=free)
    return kept


LISTED_MODELS: tuple[ModelSpec, ...] = (
    _spec(DEFAULT_MODEL, 384, 256, MINILM.sha256[:12]),
    _spec("sentence-transformers/all-MiniLM-L12-v2", 384, 128),
    _spec("sentence-transformers/all-mpnet-base-v2", 768, 384),
    _spec("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", 384, 128),
    _spec("BAAI/bge-small-en-v1.5", 384, 512),
    _spec("BAAI/bge-base-en-v1.5", 768, 512),
    _spec("BAAI/bge-large-en-v1.5", 1024, 512),
    _spec("BAAI/bge-large-en", 1024, 512),
    _spec("intfloat/multilingual-e5-small", 384, 512),
    _spec("intfloat/multilingual-e5-large", 1024, 512),
)
