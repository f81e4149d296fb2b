"""Models that are listed before anything is downloaded. Figures are those of each model's own files on the hub."""

from providers.base import ModelSpec
from providers.engine.pins import DEFAULT_MODEL, MINILM

_ORGANISATION = "sentence-transformers/"


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
    """Return the short names of a model: those of sentence-transformers go by their bare name."""
    return (name.removeprefix(_ORGANISATION),) if name.startswith(_ORGANISATION) else ()


CATALOGUE: tuple[ModelSpec, ...] = (
    _spec(DEFAULT_MODEL, 384, 256, MINILM.sha256[:12]),
    _spec("sentence-transformers/all-MiniLM-L12-v2", 384, 128),
    _spec("sentence-transformers/all-mpnet-base-v2", 768, 384),
    _spec("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", 384, 128),
    _spec("BAAI/bge-small-en-v1.5", 384, 512),
    _spec("BAAI/bge-base-en-v1.5", 768, 512),
    _spec("BAAI/bge-large-en-v1.5", 1024, 512),
    _spec("intfloat/multilingual-e5-small", 384, 512),
    _spec("intfloat/multilingual-e5-large", 1024, 512),
)
