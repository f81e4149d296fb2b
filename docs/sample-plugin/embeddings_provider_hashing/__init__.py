"""Embeddings by feature hashing: each word adds or takes one at a place that its hash
chooses.

K. Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009,
https://arxiv.org/abs/0902.2206
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Self

import numpy as np

from providers.base import Embedded, InputType, ModelSpec, Provider
from providers.exceptions import ProviderTimeout


class HashingProvider(Provider):
    """One model, `hashing-words`, that needs neither weights nor a network."""

    name = "hashing"
    takes_prompts = True

    @classmethod
    def from_settings(cls, options: Mapping[str, Any]) -> Self:
        return cls()

    def models(self) -> Iterable[ModelSpec]:
        return [
            ModelSpec(
                name="hashing-words",
                dimensions=512,
                max_tokens=None,
                vector_space="hashing/words-1",
                native_dimensions=(128, 256, 512, 1024),
            )
        ]

    def embed(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        *,
        dimensions: int | None,
        input_type: InputType,
        timeout_seconds: float,
    ) -> Embedded:
        if timeout_seconds <= 0:
            raise ProviderTimeout("hashing had no time left.")
        read = model.prompted(texts, input_type)
        words = [text.casefold().split() for text in read]
        vectors = np.zeros((len(texts), dimensions or model.dimensions or 512))
        for row, of_text in zip(vectors, words, strict=True):
            for word in of_text:
                place, sign = _place_and_sign(word, len(row))
                row[place] += sign
        return Embedded(
            vectors=vectors.astype(np.float32), prompt_tokens=sum(map(len, words))
        )


def _place_and_sign(word: str, dimensions: int) -> tuple[int, int]:
    number = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")
    return (number >> 1) % dimensions, 1 if number & 1 else -1
