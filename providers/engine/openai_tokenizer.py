"""OpenAI's vocabularies, by tiktoken, from a folder that was filled beforehand; never from the network."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import tiktoken
import tiktoken.load
from tiktoken.model import encoding_name_for_model

from providers.base import Tokenizer
from providers.command import COMMAND
from providers.exceptions import ProviderMisconfigured

_DEFAULT_ENCODING = "cl100k_base"
_loading = threading.Lock()
_loaded: dict[str, "OpenAITokenizer"] = {}


def openai_tokenizer(model_name: str, *, cache_dir: Path) -> Tokenizer:
    """Return the tokenizer of an OpenAI model, cl100k_base for any other; `cache_dir` holds tiktoken's files.

    Raises ProviderMisconfigured where the vocabulary is absent or damaged.
    """
    try:
        encoding_name = encoding_name_for_model(model_name)
    except KeyError:
        encoding_name = _DEFAULT_ENCODING
    with _loading:
        if encoding_name not in _loaded:
            _loaded[encoding_name] = OpenAITokenizer(_load(encoding_name, cache_dir))
        return _loaded[encoding_name]


class OpenAITokenizer:
    """Counts, cuts and decodes with one of OpenAI's encodings. Text that spells a special token is ordinary text."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text; these encodings add no special ones."""
        return [self._count(text) for text in texts]

    def truncate(self, text: str, max_tokens: int) -> str:
        """Return a longest prefix of `text` that counts at most `max_tokens`."""
        ids = self._encoding.encode_ordinary(text)
        if len(ids) <= max_tokens:
            return text
        # A token may end inside a character; bytes that are no whole character are dropped. What is left can count
        # more than its tokens did, so it is counted again.
        for kept in range(max_tokens, 0, -1):
            cut = self._encoding.decode_bytes(ids[:kept]).decode(
                "utf-8", errors="ignore"
            )
            if text.startswith(cut) and self._count(cut) <= max_tokens:
                return cut
        return ""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of `token_ids`; bytes that are no UTF-8 become U+FFFD. Raises ValueError for unknown ids."""
        # Looked at first: the extension answers odd ids with KeyError, OverflowError or a panic.
        if any(
            not 0 <= token_id <= self._encoding.max_token_value
            for token_id in token_ids
        ):
            raise ValueError("A token id lies outside the vocabulary.")
        try:
            return self._encoding.decode(list(token_ids), errors="replace")
        except KeyError as error:
            raise ValueError("A token id lies outside the vocabulary.") from error

    def _count(self, text: str) -> int:
        # An array instead of a list of Python ints: a fourth of the memory for a long text.
        return len(self._encoding.encode_to_numpy(text, disallowed_special=()))


def _load(encoding_name: str, cache_dir: Path) -> tiktoken.Encoding:
    """Load an encoding with tiktoken's cache pointed at `cache_dir` and its network turned off; `_loading` is held."""
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    fetch = tiktoken.load.read_file
    tiktoken.load.read_file = _refuse  # type: ignore[assignment] # another parameter name
    os.environ["TIKTOKEN_CACHE_DIR"] = str(cache_dir)
    try:
        return tiktoken.get_encoding(encoding_name)
    except (_AbsentError, OSError, ValueError) as error:
        raise ProviderMisconfigured(
            f"The vocabulary {encoding_name} is not on this machine: run `{COMMAND} download_model` to prepare it."
        ) from error
    finally:
        tiktoken.load.read_file = fetch
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


class _AbsentError(Exception):
    """tiktoken wanted to fetch a file during a request."""


def _refuse(address: str) -> bytes:
    raise _AbsentError(address)
