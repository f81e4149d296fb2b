"""A static model's folder: a vector for each token of its vocabulary, whose mean is a text's. Standard library only.

Two layouts: sentence-transformers' StaticEmbedding, which modules.json names, at the root or in a folder of its own;
and model2vec's without a modules.json, which only model2vec itself reads, by rules of its own.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from providers.engine.described import TOKENIZER_FILE, refused

_WEIGHTS_FILE = "model.safetensors"  # both libraries write no other
# What the table of vectors is called: by sentence-transformers, and by model2vec.
TABLE, MODEL2VEC_TABLE = "embedding.weight", "embeddings"
# Which row of the table a token has, and what its vector is multiplied by: of vocabularies that model2vec quantised.
MAPPING, WEIGHTS = "mapping", "weights"
# model2vec cuts texts here where config.json does not say otherwise.
MODEL2VEC_MAX_TOKENS = 512
_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
_WHOLE = frozenset({"I16", "I32", "I64", "U16", "U32", "U64"})
_MOST_HEADER_BYTES = 1 << 20
_HEAD_BYTES = 4096
_FLOAT32_BYTES, _INDEX_BYTES = 4, 8


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a safetensors file: the kind of its numbers as the file names it, and its shape."""

    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticConfig:
    """Where the table and the tokenizer of a static model lie, and by whose rules a text is read.

    `drops_unknown`: model2vec leaves the tokens of unknown words out of the mean; sentence-transformers counts them in.
    """

    folder: str = ""
    drops_unknown: bool = False

    @property
    def tokenizer_file(self) -> str:
        """The tokenizer, relative to the model's folder."""
        return self._path(TOKENIZER_FILE)

    @property
    def weights_file(self) -> str:
        """The table, relative to the model's folder."""
        return self._path(_WEIGHTS_FILE)

    def tensors(self, root: Path) -> Mapping[str, Stored]:
        """Return the tensors of the model by name, from the file's header alone. Raises ProviderMisconfigured."""
        found = read_header(root / self.weights_file)
        names = [name for name in (TABLE, MODEL2VEC_TABLE) if name in found]
        if len(names) != 1:
            raise refused(
                f"its {self.weights_file} has {'two tables' if names else 'no table'} of vectors ({TABLE} or"
                f" {MODEL2VEC_TABLE}); it must have one"
            )
        _check_table(names[0], found[names[0]])
        kept = {names[0]: found[names[0]]}
        if names[0] == MODEL2VEC_TABLE:
            kept |= {name: found[name] for name in (MAPPING, WEIGHTS) if name in found}
        _check_rows(kept)
        if strays := sorted(found.keys() - kept.keys()):
            raise refused(
                f"its {self.weights_file} holds {strays[0][:80]}, which is no part of a static model"
            )
        return kept

    def width(self, root: Path) -> int:
        """Return the numbers in a token's vector. Raises ProviderMisconfigured."""
        tensors = self.tensors(root)
        table = tensors.get(TABLE) or tensors[MODEL2VEC_TABLE]
        return table.shape[1]

    def memory_bytes(self, root: Path) -> int:
        """Return what the model takes once it is loaded: vectors in float32, rows in int64."""
        return sum(
            prod(stored.shape) * (_INDEX_BYTES if name == MAPPING else _FLOAT32_BYTES)
            for name, stored in self.tensors(root).items()
        )

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name


def read_header(path: Path) -> dict[str, Stored]:
    """Return what a safetensors file holds, by name. Raises ProviderMisconfigured."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MOST_HEADER_BYTES:
                raise ValueError("the header is too large")
            header = json.loads(file.read(length))
        return {
            name: Stored(str(entry["dtype"]), tuple(map(int, entry["shape"])))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except FileNotFoundError as error:
        raise refused(f"it has no {path.name}") from error
    except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
        raise refused(f"its {path.name} is damaged") from error


def truncation_of(path: Path) -> int | None:
    """Return after how many tokens a tokenizer.json cuts texts, None if never: sentence-transformers lets it."""
    found = _value_of_truncation(path)
    if found is None:
        return None
    limit = found.get("max_length") if isinstance(found, dict) else None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise refused(f"the truncation in its {path.name} is not understood")
    return limit


def _value_of_truncation(path: Path) -> Any:
    """Read one setting, which stands before all that is large: a file may have tens of megabytes."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode(errors="ignore")
    key = '"truncation":'
    if key in head:
        rest = head[head.index(key) + len(key) :].lstrip()
        try:
            return json.JSONDecoder().raw_decode(rest)[0]
        except ValueError:
            pass
    return json.loads(path.read_bytes()).get("truncation")


def _check_table(name: str, table: Stored) -> None:
    # model2vec's int8 has no scale: every vector of a text is the shorter by the same factor.
    kinds = _FLOATS | {"I8"} if name == MODEL2VEC_TABLE else _FLOATS
    if len(table.shape) != 2 or 0 in table.shape or table.kind not in kinds:
        raise refused(
            f"its {name} is no table of vectors (it is {table.kind}, of shape {list(table.shape)})"
        )


def _check_rows(tensors: Mapping[str, Stored]) -> None:
    mapping, weights = tensors.get(MAPPING), tensors.get(WEIGHTS)
    if mapping and (len(mapping.shape) != 1 or mapping.kind not in _WHOLE):
        raise refused(f"its {MAPPING} is not a row of the table for each token")
    if weights and (len(weights.shape) != 1 or weights.kind not in _FLOATS):
        raise refused(f"its {WEIGHTS} is not a number for each token")
    if weights and mapping and weights.shape != mapping.shape:
        raise refused(f"its {MAPPING} and {WEIGHTS} are not of as many tokens")
