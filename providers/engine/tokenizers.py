"""The tokenizers of prepared models: read when first asked for, once however many threads ask, for a whole process."""

import math
import threading
from dataclasses import dataclass

from providers.engine.files import Manifest
from providers.engine.prepared import Prepared
from providers.engine.tokenizer import ModelTokenizer
from providers.engine.weights import Weights


@dataclass(frozen=True, slots=True)
class Read:
    """A model's tokenizer, and the files that it was read from."""

    prepared: Prepared
    tokenizer: ModelTokenizer


class Tokenizers:
    """By the model's name. What was read goes when the model's files are replaced.

    A tokenizer whose file is over `most_bytes` is left to another process.
    """

    def __init__(self, weights: Weights, *, most_bytes: float = math.inf) -> None:
        self._weights = weights
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}
        self._known: dict[str, Read] = {}
        self._seen: dict[str, Manifest] = {}

    def get(self, name: str) -> Read | None:
        """Return the tokenizer from the model's file; None where it is too large, or of the model's library (torch).

        Raises ProviderMisconfigured where the model is not prepared.
        """
        known = self._known.get(name)
        if known is not None:
            return known
        if (prepared := self._weights.find(name)) and self._is_elsewhere(prepared):
            return None
        with self._reading_lock(name):
            if (known := self._known.get(name)) is not None:
                return known
            only = prepared.config.tokenizer_file if prepared else None
            prepared = self._weights.verified(name, only=only)
            return self.keep(prepared, prepared.tokenizer())

    def keep(self, prepared: Prepared, tokenizer: ModelTokenizer) -> Read:
        """Remember a tokenizer that was read, and return it."""
        read = self._known[prepared.name] = Read(prepared, tokenizer)
        return read

    def known(self, name: str) -> ModelTokenizer | None:
        """Return the tokenizer if it was read."""
        read = self._known.get(name)
        return read.tokenizer if read else None

    def replaced(self, name: str, manifest: Manifest) -> bool:
        """Whether the model's files are others than at the last look, or than those of its tokenizer."""
        known = self._known.get(name)
        before = known.prepared.manifest if known else self._seen.get(name, manifest)
        self._seen[name] = manifest
        return before != manifest

    def forget(self, name: str) -> None:
        """Read the model's tokenizer again when it is next asked for."""
        with self._lock:
            self._known.pop(name, None)

    def _is_elsewhere(self, prepared: Prepared) -> bool:
        if prepared.runtime == "torch":
            return True
        file = prepared.manifest.files.get(prepared.config.tokenizer_file)
        return file is not None and file.size_bytes > self._most_bytes

    def _reading_lock(self, name: str) -> threading.Lock:
        with self._lock:
            return self._reading.setdefault(name, threading.Lock())
