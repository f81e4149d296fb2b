"""Tokens in and out: token arrays to text, counts, limits, and truncation where the client asked for it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from django.conf import settings

from embeddings.services.cache.keys import cache_keys
from embeddings.services.errors import InputTooLong, InvalidRequest
from embeddings.services.types import EmbeddingRequest, Target
from providers.base import Tokenizer
from providers.engine.openai_tokenizer import openai_tokenizer
from providers.metrics import timed
from providers.prompts import count_tokens, truncate
from providers.state.process import owned

MAX_REMEMBERED = 50_000  # counts, some 8 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTexts:
    """Texts ready for one target, without its prompt, and the cache's key of each.

    `given_tokens`: how many ids the client sent, None if it sent text. `counted_tokens`: by the model's own tokenizer,
    the prompt included, None where the tokenizer is not public.
    """

    texts: Sequence[str]
    keys: Sequence[bytes]
    prompt: str
    given_tokens: int | None
    counted_tokens: int | None
    truncated: int = 0


def prepare(
    request: EmbeddingRequest, *, requested: Target, target: Target
) -> PreparedTexts:
    """Decode, count and (on request) cut the inputs for `target`. Raises InvalidRequest or InputTooLong.

    Token arrays are in the OpenAI encoding of the model that was `requested`, whichever target serves them.
    """
    tokenizer = target.provider.tokenizer(target.model)
    texts = _decoded(request, requested, tokenizer)
    keys = _keys(request, target, texts)
    counted, truncated = None, 0
    if tokenizer is not None:
        counts = _counts(request, target, tokenizer, texts, keys)
        _refuse_without_tokens(request, counts)
        truncated = len(_over(counts, target.model.max_tokens))
        if truncated:
            texts, keys, counts = _cut(request, target, tokenizer, texts, counts)
        counted = sum(counts)
    return PreparedTexts(
        texts=texts,
        keys=keys,
        prompt=target.model.prompt(request.input_type),
        given_tokens=_given_tokens(request),
        counted_tokens=counted,
        truncated=truncated,
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


def _counts(
    request: EmbeddingRequest,
    target: Target,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    keys: Sequence[bytes],
) -> list[int]:
    """Return the tokens of each text after the model's prompt, 0 for one of which the tokenizer leaves nothing."""
    prompt, provider = target.model.prompt(request.input_type), target.provider.name

    def count(new: Sequence[str]) -> list[int]:
        # No text is empty, so the key of an empty one is free for the prompt itself.
        key = _keys(request, target, [""])
        [alone] = token_counts().of(key, [prompt], tokenizer.count, provider=provider)
        return count_tokens(tokenizer, new, prompt=prompt, prompt_tokens=alone)

    return token_counts().of(keys, texts, count, provider=provider)


def _refuse_without_tokens(request: EmbeddingRequest, counts: Sequence[int]) -> None:
    if 0 in counts:
        place = request.place.format(counts.index(0))
        raise InvalidRequest(
            f"{place} has no tokens: the model leaves out every character of it.",
            param=place,
        )


def _cut(
    request: EmbeddingRequest,
    target: Target,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    counts: Sequence[int],
) -> tuple[list[str], list[bytes], list[int]]:
    """Return `texts` with those over the limit cut, their keys and counts.

    Raises InputTooLong where cutting is not asked for, and where the prompt leaves no tokens for any of the text.
    """
    limit, prompt = (
        target.model.max_tokens or 0,
        target.model.prompt(request.input_type),
    )
    over = lost = _over(counts, limit)
    cut, keys, fitting = list(texts), list[bytes](), list[int]()
    if request.truncate:
        for index in over:
            cut[index] = truncate(tokenizer, texts[index], limit, prompt=prompt)
        lost = [index for index in over if not cut[index].strip()]
        if not lost:
            keys = _keys(request, target, cut)
            fitting = _counts(request, target, tokenizer, cut, keys)
            lost = [index for index in over if not 0 < fitting[index] <= limit]
    if lost:
        details = [{"index": index, "tokens": counts[index]} for index in lost]
        raise InputTooLong(model=target.label, max_tokens=limit, details=details)
    return cut, keys, fitting


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


class TokenCounts:
    """How many tokens a text has, so that one whose vector is cached need not be tokenised to be counted.

    Counts by cache key, which stands for model, prompt and text. Who was added first goes first.
    """

    def __init__(self, *, max_size: int = MAX_REMEMBERED) -> None:
        self._max_size = max_size
        self._counts: dict[bytes, int] = {}
        self._lock = threading.Lock()  # of those who add; to look needs none

    def of(
        self,
        keys: Sequence[bytes],
        texts: Sequence[str],
        count: Callable[[Sequence[str]], list[int]],
        *,
        provider: str,
    ) -> list[int]:
        """Return the tokens of each text, whose key stands at the same place. What is new is counted in one go."""
        found = [self._counts.get(key, -1) for key in keys]
        new = [index for index, count in enumerate(found) if count < 0]
        if new:
            with timed(provider, "tokenise"):
                counted = count([texts[index] for index in new])
            for index, tokens in zip(new, counted, strict=True):
                found[index] = tokens
            self._remember({keys[index]: found[index] for index in new})
        return found

    def _remember(self, counts: dict[bytes, int]) -> None:
        with self._lock:
            self._counts |= counts
            while len(self._counts) > self._max_size:
                del self._counts[next(iter(self._counts))]


@owned
def token_counts() -> TokenCounts:
    """Return the counts of this process."""
    return TokenCounts()
