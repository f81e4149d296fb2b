"""How results look on the wire. The only place that writes base64."""

from collections.abc import Iterable
from typing import Any

from pybase64 import b64encode_as_string

from embeddings.services.catalog import ListedModel, ModelState
from embeddings.services.types import EmbeddingResult, Target
from providers.base import Download, Vectors
from providers.models import written_sizes
from providers.operator_settings import OperatorSettings


def embedding_list(result: EmbeddingResult, *, encoding_format: str) -> dict[str, Any]:
    """Return OpenAI's list object."""
    rows = (
        as_base64(result.vectors)
        if encoding_format == "base64"
        else list(result.vectors)
    )
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows)
        ],
        "model": result.target.label,
        "usage": {
            "prompt_tokens": result.prompt_tokens,
            "total_tokens": result.prompt_tokens,
        },
    }


def embedding_batch(result: EmbeddingResult) -> dict[str, Any]:
    """Return the batch endpoint's object."""
    return {
        "embeddings": list(result.vectors),
        "model": result.target.label,
        "provider": result.target.provider.name,
        "count": len(result.vectors),
    }


def embedding_headers(result: EmbeddingResult) -> dict[str, str]:
    """Return the headers that say what this answer is."""
    headers = {
        "X-Embeddings-Provider": result.target.provider.name,
        "X-Embeddings-Vector-Space": result.target.model.vector_space,
    }
    if result.target.model.drifted:
        headers["X-Embeddings-Drift"] = "true"
    if result.fallback_from:
        headers["X-Embeddings-Fallback-From"] = result.fallback_from
    if result.dimensions_policy:
        headers["X-Embeddings-Dimensions-Policy"] = result.dimensions_policy
    if result.truncated:
        headers["X-Embeddings-Truncated"] = str(result.truncated)
    if precision := result.target.model.precision:
        headers["X-Embeddings-Precision"] = precision
    return headers


def as_base64(vectors: Vectors) -> list[str]:
    """Return each row, float32 little-endian, as base64."""
    return [
        b64encode_as_string(row)  # several times as fast as Python's own
        for row in vectors.astype("<f4", order="C", copy=False)
    ]


def model_list(
    models: Iterable[ListedModel], *, operator: OperatorSettings
) -> dict[str, Any]:
    """Return the models endpoint's object; an allowlist that allows everything is null."""
    return {
        "data": [
            {
                "provider": listed.target.provider.name,
                "model": listed.target.model.name,
                "allowed": listed.allowed,
                "default": listed.default,
            }
            for listed in models
        ],
        "allowed_providers": list(operator.allowed_providers) or None,
        "allowed_models": list(operator.allowed_models) or None,
    }


def model_state(state: ModelState) -> dict[str, Any]:
    """Return what is known of one model."""
    model, serving = state.target.model, state.serving
    return {
        "provider": state.target.provider.name,
        "model": model.name,
        "dimensions": model.dimensions,
        "max_tokens": model.max_tokens,
        "allowed": state.allowed,
        "default": state.default,
        "loaded": state.loaded,
        "downloaded": state.downloaded,
        "vector_space": model.vector_space,
        "native_dimensions": written_sizes(model.native_dimensions),
        "runtime": serving.runtime if serving else None,
        "device": serving.device if serving else None,
        "verified": serving.verified if serving else None,
        "precision": model.precision,
        "method": model.method,
        "prompts": {"query": model.query_prompt, "document": model.document_prompt},
        "drifted": model.drifted,
        "problem": state.problem,
    }


def warmed_model(target: Target, *, seconds: float) -> dict[str, Any]:
    """Return the answer to a warm-up."""
    return {
        "status": "ok",
        "provider": target.provider.name,
        "model": target.model.name,
        "warmed": True,
        "seconds": round(seconds, 3),
    }


def downloaded_model(provider: str, download: Download) -> dict[str, Any]:
    """Return the answer to a download."""
    return {
        "status": "ok",
        "provider": provider,
        "model": download.model.name,
        "downloaded": True,
        "path": str(download.path),
        "bytes": download.size_bytes,
    }


def openai_model(target: Target) -> dict[str, Any]:
    """Return OpenAI's model object; `created` is not known for models we did not make."""
    return {
        "id": target.label,
        "object": "model",
        "created": 0,
        "owned_by": target.provider.name,
    }


def openai_model_list(models: Iterable[ListedModel]) -> dict[str, Any]:
    """Return OpenAI's list of models: those that may be used."""
    return {
        "object": "list",
        "data": [openai_model(listed.target) for listed in models if listed.allowed],
    }
