"""A model's own tokenizer, by `tokenizers`. Thread-safe: it is configured once and then only read.

Texts are taken in slices of bounded size: an encoding costs about 100 bytes a token, so 32 MB of text at once would
take gigabytes.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, normalizers
from tokenizers import Tokenizer as RawTokenizer

from providers.exceptions import ProviderMisconfigured

TokenIds = NDArray[np.int64]
_SLICE_CHARACTERS = 1 << 18
_KEPT_CHARACTERS = 8192
_KEPT_TOKENS = 1 << 18


class ModelTokenizer:
    """Counts, cuts, decodes and encodes with the vocabulary in tokenizer.json."""

    def __init__(
        self,
        raw: RawTokenizer,
        *,
        lower_case: bool = False,
        special_tokens: bool = True,
        drops_unknown: bool = False,
    ) -> None:
        """`special_tokens` False: none stand around a text. `drops_unknown`: a text of unknown words alone is blank."""
        # Files often carry the limit and padding of a training run; here nothing may be cut or padded unseen.
        raw.no_truncation()
        raw.no_padding()
        if lower_case:
            steps = [
                normalizers.Lowercase(),
                *([raw.normalizer] if raw.normalizer else []),
            ]
            raw.normalizer = normalizers.Sequence(steps)
        self._raw = raw
        self._counted = _Counted()
        self._adds_special = special_tokens
        self._special = (
            raw.num_special_tokens_to_add(is_pair=False) if special_tokens else 0
        )
        self._dropped = self.unknown_id if drops_unknown else None
        self._size = raw.get_vocab_size(with_added_tokens=True)

    @property
    def vocabulary_size(self) -> int:
        """Token ids are below this."""
        return self._size

    @property
    def unknown_id(self) -> int | None:
        """The token of what the vocabulary lacks, if it has one."""
        model = self._raw.model
        if hasattr(model, "unk_token"):  # WordPiece, BPE, WordLevel
            token = model.unk_token
            return None if token is None else self._raw.token_to_id(token)
        found = json.loads(self._raw.to_str())["model"].get("unk_id")  # Unigram
        return None if found is None else int(found)

    @classmethod
    def from_file(cls, path: Path, **options: bool) -> "ModelTokenizer":
        """Read tokenizer.json; `options` are those of the class. Raises ProviderMisconfigured."""
        try:
            return cls(RawTokenizer.from_file(str(path)), **options)
        except Exception as error:  # the library raises bare Exception
            raise ProviderMisconfigured(
                f"The tokenizer in {path} is absent or not understood."
            ) from error

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, special tokens included if the model has any, int64 (tokens,)."""
        known = [self._counted.take(text) for text in texts]
        missing = [text for text, ids in zip(texts, known, strict=True) if ids is None]
        made = self._encoded(missing)
        return [next(made) if ids is None else ids for ids in known]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, special tokens included if the model has any; 0 for a blank one.

        A text beyond 262,144 characters is counted in pieces cut at white space where there is some, which can be off
        by a token or so per piece; a limit of a few thousand tokens is judged the same.
        """
        short = [text for text in texts if not _long(text)]
        counts: list[int] = []
        for text, ids in zip(short, self._encoded(short), strict=True):
            self._counted.keep(text, ids)
            blank = self._dropped is not None and (ids == self._dropped).all()
            counts.append(0 if blank else len(ids))
        each = iter(counts)
        return [self._count_long(text) if _long(text) else next(each) for text in texts]

    def prompt_tokens(self, prompt: str) -> int:
        """Return how many tokens a text that starts with `prompt` begins with, a leading special token included."""
        encoding = self._raw.encode(prompt, add_special_tokens=self._adds_special)
        # As sentence-transformers counts: of what ends a text, one token is taken off.
        ends = bool(encoding.special_tokens_mask and encoding.special_tokens_mask[-1])
        return len(encoding.ids) - ends

    def truncate(self, text: str, max_tokens: int) -> str:
        """Return a longest prefix of `text` that counts at most `max_tokens`; empty where nothing fits."""
        end = _SLICE_CHARACTERS
        while end < len(text) and self._count_long(text[:end]) <= max_tokens:
            end *= 2
        head = text[:end]
        offsets = self._raw.encode(head, add_special_tokens=False).offsets
        kept = max(max_tokens - self._special, 0)
        if end >= len(text) and self.count([text])[0] <= max_tokens:
            return text
        kept = min(kept, len(offsets))
        # Cut before the first token that does not fit. A cut can change how the rest is tokenised (a word's pieces,
        # Unicode normalisation), so the result is counted again.
        while kept > 0:
            cut = head[: offsets[kept - 1][1]]
            if self.count([cut])[0] <= max_tokens:
                return cut
            kept -= 1
        return ""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of `token_ids`, special tokens left out. Raises ValueError for ids outside the vocabulary."""
        bad = next((index for index in token_ids if not 0 <= index < self._size), None)
        if bad is not None or any(
            self._raw.id_to_token(index) is None for index in token_ids
        ):
            raise ValueError("A token id lies outside the model's vocabulary.")
        return str(self._raw.decode(list(token_ids)))

    def _encoded(self, texts: Sequence[str]) -> Iterator[TokenIds]:
        return (
            np.array(encoding.ids, dtype=np.int64)
            for encoding in self._encodings(texts)
        )

    def _encodings(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """Encode slice by slice. One text alone skips the thread pool: handing over costs more than it saves."""
        special = self._adds_special
        for part in _slices(texts):
            if len(part) == 1:
                yield self._raw.encode(part[0], add_special_tokens=special)
            else:
                yield from self._raw.encode_batch_fast(part, add_special_tokens=special)

    def _count_long(self, text: str) -> int:
        total = self._special
        for piece in _pieces(text):
            total += len(
                self._raw.encode_batch_fast([piece], add_special_tokens=False)[0]
            )
        return total


class _Counted:
    """Token ids of texts that were just counted: a request's texts are counted first, and those computed encoded next.

    The oldest are dropped for new ones. Short texts only, so that a few megabytes are the most it holds.
    """

    def __init__(self) -> None:
        self._ids: dict[str, TokenIds] = {}
        self._tokens = 0
        self._lock = threading.Lock()

    def keep(self, text: str, ids: TokenIds) -> None:
        if len(text) > _KEPT_CHARACTERS:
            return
        with self._lock:
            if text not in self._ids:
                self._ids[text] = ids
                self._tokens += len(ids)
            while self._tokens > _KEPT_TOKENS:
                oldest = next(iter(self._ids))
                self._tokens -= len(self._ids.pop(oldest))

    def take(self, text: str) -> TokenIds | None:
        with self._lock:
            ids = self._ids.pop(text, None)
            self._tokens -= 0 if ids is None else len(ids)
            return ids


def _long(text: str) -> bool:
    return len(text) > _SLICE_CHARACTERS


def _slices(texts: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and characters + len(text) > _SLICE_CHARACTERS:
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + _SLICE_CHARACTERS
        space = text.rfind(" ", start + 1, end) if end < len(text) else -1
        end = space if space > start else end
        yield text[start:end]
        start = end
