"""How results look on the wire. The only place that writes base64."""

import base64
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from embeddings.services.cache import CacheStats
from embeddings.services.catalog import ModelState
from embeddings.services.health import Health
from embeddings.services.types import EmbeddingResult, Target
from providers.base import Download, ModelSpec, Vectors


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
        "provider": result.target.provider,
        "count": len(result.vectors),
    }


def embedding_headers(result: EmbeddingResult) -> dict[str, str]:
    """Return the headers that say what this answer is."""
    headers = {
        "X-Embeddings-Provider": result.target.provider,
        "X-Embeddings-Vector-Space": result.target.model.vector_space,
    }
    if result.fallback_from:
        headers["X-Embeddings-Fallback-From"] = result.fallback_from
    if result.dimensions_policy:
        headers["X-Embeddings-Dimensions-Policy"] = result.dimensions_policy
    if result.truncated:
        headers["X-Embeddings-Truncated"] = str(result.truncated)
    return headers


def native_dimensions(model: ModelSpec) -> list[int] | dict[str, int] | None:
    """Return the sizes a model answers in by itself: a list, a range, or null if only its own."""
    sizes = model.native_dimensions
    if not sizes:
        return None
    return (
        {"minimum": sizes[0], "maximum": sizes[-1]}
        if isinstance(sizes, range)
        else list(sizes)
    )


def as_base64(vectors: Vectors) -> list[str]:
    """Return each row, float32 little-endian, as base64."""
    return [
        base64.b64encode(row).decode("ascii")
        for row in vectors.astype("<f4", order="C", copy=False)
    ]


def model_list(targets: Iterable[Target], *, default: Target) -> dict[str, Any]:
    """Return the models endpoint's object."""
    return {
        "data": [
            {
                "provider": t.provider,
                "model": t.model.name,
                "allowed": True,
                "default": t.same_as(default),
            }
            for t in targets
        ],
        "allowed_providers": None,
        "allowed_models": None,
    }


def model_state(state: ModelState) -> dict[str, Any]:
    """Return what is known of one model."""
    model = state.target.model
    return {
        "provider": state.target.provider,
        "model": model.name,
        "dimensions": model.dimensions,
        "max_tokens": model.max_tokens,
        "allowed": state.allowed,
        "default": state.default,
        "loaded": state.loaded,
        "downloaded": state.downloaded,
        "vector_space": model.vector_space,
        "native_dimensions": native_dimensions(model),
    }


def warmed_model(target: Target, *, seconds: float) -> dict[str, Any]:
    """Return the answer to a warm-up."""
    return {
        "status": "ok",
        "provider": target.provider,
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
        "owned_by": target.provider,
    }


def openai_model_list(targets: Iterable[Target]) -> dict[str, Any]:
    """Return OpenAI's list of models."""
    return {"object": "list", "data": [openai_model(target) for target in targets]}


def health_report(
    health: Health, *, cache: CacheStats, active_requests: int
) -> dict[str, Any]:
    """Return the health endpoint's object; `problem` only where there is one."""
    return {
        "status": "healthy" if health.healthy else "degraded",
        "service": "embeddings_v5_production_enhanced",
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cache_stats": asdict(cache),
        "active_requests": active_requests,
        **({"problem": health.problem} if health.problem else {}),
    }
