"""Tokens in and out: token arrays to text, counts, limits, and truncation where the client asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from embeddings.services.errors import InputTooLong, InvalidRequest
from embeddings.services.types import EmbeddingRequest, Target
from providers.base import Provider, Tokenizer
from providers.engine.openai_tokenizer import openai_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Texts ready for one target. `prompt_tokens` is None where only the upstream can count."""

    texts: Sequence[str]
    prompt_tokens: int | None
    truncated: int


def prepare(
    request: EmbeddingRequest, *, requested: Target, target: Target, provider: Provider
) -> Prepared:
    """Decode, count and (on request) cut the inputs for `target`. Raises InvalidRequest or InputTooLong.

    Token arrays are in the OpenAI encoding of the model that was `requested`, whichever target serves them.
    """
    tokenizer = provider.tokenizer(target.model)
    texts = _decoded(request, requested, tokenizer)
    if tokenizer is None:
        return Prepared(texts=texts, prompt_tokens=_given_tokens(request), truncated=0)
    counts = tokenizer.count(texts)
    limit = target.model.max_tokens
    over = [
        index
        for index, count in enumerate(counts)
        if limit is not None and count > limit
    ]
    if limit is not None and over:
        if not request.truncate:
            details = [{"index": index, "tokens": counts[index]} for index in over]
            raise InputTooLong(model=target.label, max_tokens=limit, details=details)
        texts = [
            tokenizer.truncate(text, limit) if index in set(over) else text
            for index, text in enumerate(texts)
        ]
        counts = tokenizer.count(texts)
    given = _given_tokens(request)
    return Prepared(
        texts=texts,
        prompt_tokens=sum(counts) if given is None else given,
        truncated=len(over),
    )


def _given_tokens(request: EmbeddingRequest) -> int | None:
    """Return how many ids the client sent, or None if it sent text."""
    if isinstance(request.inputs[0], str):
        return None
    return sum(len(item) for item in request.inputs)


def _decoded(
    request: EmbeddingRequest, requested: Target, own: Tokenizer | None
) -> list[str]:
    if isinstance(request.inputs[0], str):
        return [item for item in request.inputs if isinstance(item, str)]
    if request.vocabulary == "model":
        if own is None:
            raise InvalidRequest(
                "This model's vocabulary is not public; send text, or OpenAI token ids.",
                param="input",
            )
        tokenizer = own
    else:
        tokenizer = openai_tokenizer(
            requested.model.name, cache_dir=Path(settings.DATA_DIR) / "tiktoken"
        )
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
