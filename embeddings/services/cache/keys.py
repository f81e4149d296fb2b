"""What a cached vector is known by."""

import hashlib
from collections.abc import Sequence

import orjson

from embeddings.services.types import Target
from providers.base import InputType


def cache_keys(
    target: Target,
    *,
    dimensions: int | None,
    input_type: InputType,
    texts: Sequence[str],
) -> list[bytes]:
    """Return one 32-byte key a text, of everything that changes its vector: see the scope below, and the text."""
    model = target.model
    # JSON, since names and prompts may hold any character; it says itself where it ends and the text begins.
    scope = orjson.dumps(
        [
            target.provider.name,
            model.name,
            model.vector_space,
            model.revision,
            model.method,
            dimensions,
            input_type,
            model.prompt(input_type),
        ]
    )
    start = hashlib.blake2b(scope, digest_size=32)
    keys = []
    for text in texts:
        digest = start.copy()
        digest.update(text.encode())
        keys.append(digest.digest())
    return keys
