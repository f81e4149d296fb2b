"""What a prompt changes: how many tokens a text has, where it is cut, and which space its vectors lie in."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from providers.base import ModelSpec, Tokenizer


def count_tokens(
    tokenizer: Tokenizer, texts: Sequence[str], *, prompt: str, prompt_tokens: int
) -> list[int]:
    """Return the tokens of each text as the model reads it, prompt and special tokens included.

    0 for a text of which only special tokens are left: nothing can be embedded of it. `prompt_tokens` is what `prompt`
    counts alone, the empty one as well.
    """
    counts = tokenizer.count([prompt + text for text in texts] if prompt else texts)
    suspects = [
        index
        for index, (text, count) in enumerate(zip(texts, counts, strict=True))
        if count <= prompt_tokens or (prompt and not any(map(str.isalnum, text)))
    ]
    if prompt and suspects:
        none, *alone = tokenizer.count(["", *(texts[index] for index in suspects)])
        suspects = [
            index for index, count in zip(suspects, alone, strict=True) if count <= none
        ]
    for index in suspects:
        counts[index] = 0
    return counts


def truncate(tokenizer: Tokenizer, text: str, max_tokens: int, *, prompt: str) -> str:
    """Return the longest prefix of `text` found that counts at most `max_tokens` after `prompt`; empty if none does."""
    return tokenizer.truncate(prompt + text, max_tokens)[len(prompt) :]


def with_prompts(
    spec: ModelSpec, *, query: str | None, document: str | None
) -> ModelSpec:
    """Return `spec` with an operator's prompts, None for the model's own.

    Vectors made with other prompts than the model's own can be compared with each other alone, so they have a revision
    and a vector space of their own.
    """
    changed = replace(
        spec,
        query_prompt=spec.query_prompt if query is None else query,
        document_prompt=spec.document_prompt if document is None else document,
    )
    if changed == spec:
        return spec
    both = json.dumps([changed.query_prompt, changed.document_prompt])
    mark = f"#prompt-{hashlib.blake2b(both.encode(), digest_size=4).hexdigest()}"
    return replace(
        changed,
        revision=spec.revision + mark,
        vector_space=spec.vector_space + mark,
    )
