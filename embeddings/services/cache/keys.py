"""What a cached vector is known by."""

import hashlib
from collections.abc import Sequence

from embeddings.services.types import Target
from providers.base import InputType


def cache_keys(
    target: Target,
    *,
    dimensions: int | None,
    input_type: InputType,
    texts: Sequence[str],
) -> list[bytes]:
    """Return one 32-byte key a text: provider, model, revision, native dimensions, input type and the text itself."""
    model = target.model
    scope = "\0".join(
        [target.provider, model.name, model.revision, str(dimensions), input_type]
    )
    start = hashlib.blake2b(scope.encode(), digest_size=32)
    keys = []
    for text in texts:
        digest = start.copy()
        digest.update(b"\0" + text.encode())
        keys.append(digest.digest())
    return keys
