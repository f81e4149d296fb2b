"""Static models in numpy: a text's vector is the mean of its tokens' vectors. There is no network and no padding.

The rules are sentence-transformers' (StaticEmbedding: an EmbeddingBag in the mode mean, then Dense and Normalize), or
model2vec's (StaticModel.encode) for a folder that only that reads; see static_config.py.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from providers.base import Vectors
from providers.engine import pooling
from providers.engine.described import refused, refusing
from providers.engine.graph import checkpoint
from providers.engine.model_config import ModelConfig
from providers.engine.runtime import Row
from providers.engine.static_config import MAPPING, MODEL2VEC_TABLE, TABLE, WEIGHTS
from providers.engine.tokenizer import ModelTokenizer

_read_linear = refusing(checkpoint.read_linear)


class StaticRuntime:
    """One static model; its table is float32 in memory, whatever the file's numbers are, so that means are exact."""

    def __init__(
        self, path: Path, config: ModelConfig, tokenizer: ModelTokenizer
    ) -> None:
        """Read the table. Raises ProviderMisconfigured, also for a tokenizer with more tokens than it has vectors."""
        static = config.static
        if static is None:
            raise refused("it is no static model")
        tensors = _read(path / static.weights_file, [*static.tensors(path)])
        table = tensors[TABLE] if TABLE in tensors else tensors[MODEL2VEC_TABLE]
        self._table: Vectors = np.ascontiguousarray(table, dtype=np.float32)
        mapping, weights = tensors.get(MAPPING), tensors.get(WEIGHTS)
        self._mapping = None if mapping is None else mapping.astype(np.int64)
        self._weights = None if weights is None else weights.astype(np.float32)
        self._unknown = tokenizer.unknown_id if static.drops_unknown else None
        self._dense = [_read_linear(path, layer) for layer in config.dense]
        self._config = config
        self._check(tokenizer)

    def run(self, rows: Sequence[Row], *, wide: bool = False) -> Vectors:
        """Return float32 (len(rows), dimensions); zeros for a text of no tokens.

        Text by text: what is gathered for one stays in the processor's cache, and is 4 to 15 times as fast as one
        gathering for all with `np.add.reduceat`.
        """
        vectors = np.zeros((len(rows), self._table.shape[1]), np.float32)
        for vector, row in zip(vectors, rows, strict=True):
            ids = row.token_ids
            if self._unknown is not None:
                ids = ids[ids != self._unknown]
            if len(ids):
                np.add.reduce(self._gathered(ids), axis=0, out=vector)
                vector /= np.float32(len(ids))
        for linear, layer in zip(self._dense, self._config.dense, strict=True):
            vectors = pooling.project(
                vectors, linear.weight, linear.bias, layer.activation
            )
        return pooling.normalize(vectors) if self._config.normalize else vectors

    def rest(self) -> None:
        """Do nothing: a run keeps no memory."""

    def _gathered(self, ids: NDArray[np.int64]) -> Vectors:
        """Return the vectors of tokens, float32 (tokens, dimensions)."""
        rows = ids if self._mapping is None else self._mapping[ids]
        vectors = self._table.take(rows, axis=0)
        if self._weights is not None:
            vectors *= self._weights[ids][:, None]
        return vectors

    def _check(self, tokenizer: ModelTokenizer) -> None:
        rows = len(self._table)
        if self._mapping is not None:
            if self._mapping.min() < 0 or self._mapping.max() >= rows:
                raise refused(f"its {MAPPING} names rows that its table does not have")
            rows = len(self._mapping)
        elif self._weights is not None:
            rows = min(rows, len(self._weights))
        if tokenizer.vocabulary_size > rows:
            raise refused(
                f"its tokenizer has {tokenizer.vocabulary_size} tokens, and there are vectors for {rows}"
            )


def _read(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise refused(f"its {path.name} is damaged") from error
