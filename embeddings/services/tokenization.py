"""Tokens in and out: token arrays to text, counts, limits, and truncation where the client asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from django.conf import settings

from embeddings.services.cache.keys import cache_keys
from embeddings.services.errors import InputTooLong, InvalidRequest
from embeddings.services.token_counts import token_counts
from embeddings.services.types import EmbeddingRequest, Target
from providers.base import Provider, Tokenizer
from providers.engine.openai_tokenizer import openai_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Texts ready for one target, and the cache's key of each.

    `given_tokens`: how many ids the client sent, None if it sent text. `counted_tokens`: by the model's own tokenizer,
    None where that is not public.
    """

    texts: Sequence[str]
    keys: Sequence[bytes]
    given_tokens: int | None
    counted_tokens: int | None
    truncated: int = 0


def prepare(
    request: EmbeddingRequest, *, requested: Target, target: Target, provider: Provider
) -> Prepared:
    """Decode, count and (on request) cut the inputs for `target`. Raises InvalidRequest or InputTooLong.

    Token arrays are in the OpenAI encoding of the model that was `requested`, whichever target serves them.
    """
    tokenizer = provider.tokenizer(target.model)
    texts = _decoded(request, requested, tokenizer)
    keys = _keys(request, target, texts)
    given = _given_tokens(request)
    if tokenizer is None:
        return Prepared(texts=texts, keys=keys, given_tokens=given, counted_tokens=None)
    counts = token_counts().of(keys, texts, tokenizer, provider=target.provider)
    limit = target.model.max_tokens
    over = _over(counts, limit)
    if limit is not None and over:
        if not request.truncate:
            details = [{"index": index, "tokens": counts[index]} for index in over]
            raise InputTooLong(model=target.label, max_tokens=limit, details=details)
        for index in over:
            texts[index] = tokenizer.truncate(texts[index], limit)
        keys = _keys(request, target, texts)
        counts = token_counts().of(keys, texts, tokenizer, provider=target.provider)
    return Prepared(
        texts=texts,
        keys=keys,
        given_tokens=given,
        counted_tokens=sum(counts),
        truncated=len(over),
    )


def estimated_tokens(texts: Sequence[str]) -> int:
    """Count `texts` in OpenAI's encoding, for models whose own is not public."""
    return sum(openai_tokenizer("", cache_dir=_cache_dir()).count(texts))


def _keys(
    request: EmbeddingRequest, target: Target, texts: Sequence[str]
) -> list[bytes]:
    return cache_keys(
        target,
        dimensions=target.native_size(request.dimensions),
        input_type=request.input_type,
        texts=texts,
    )


def _over(counts: Sequence[int], limit: int | None) -> list[int]:
    """Return where more than `limit` tokens stand."""
    if limit is None or max(counts) <= limit:
        return []
    return [index for index, count in enumerate(counts) if count > limit]


def _given_tokens(request: EmbeddingRequest) -> int | None:
    """Return how many ids the client sent, or None if it sent text."""
    if isinstance(request.inputs[0], str):
        return None
    return sum(len(item) for item in request.inputs)


def _decoded(
    request: EmbeddingRequest, requested: Target, own: Tokenizer | None
) -> list[str]:
    if isinstance(request.inputs[0], str):
        return list(cast("Sequence[str]", request.inputs))
    if request.vocabulary == "model":
        if own is None:
            raise InvalidRequest(
                "This model's vocabulary is not public; send text, or OpenAI token ids.",
                param="input",
            )
        tokenizer = own
    else:
        tokenizer = openai_tokenizer(requested.model.name, cache_dir=_cache_dir())
    return [
        _decode(tokenizer, item, index)
        for index, item in enumerate(request.inputs)
        if not isinstance(item, str)
    ]


def _decode(tokenizer: Tokenizer, token_ids: Sequence[int], index: int) -> str:
    try:
        text = tokenizer.decode(token_ids)
    except ValueError as error:
        raise InvalidRequest(
            f"input[{index}] cannot be decoded: {error}", param=f"input[{index}]"
        ) from error
    if not text.strip():
        raise InvalidRequest(
            f"input[{index}] decodes to blank text.", param=f"input[{index}]"
        )
    return text


def _cache_dir() -> Path:
    return Path(settings.DATA_DIR) / "tiktoken"
