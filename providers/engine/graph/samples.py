"""What goes into a model's products: ranges and examples, taken from runs of its exact graph. onnx and numpy only."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from providers.engine.graph.checkpoint import Array
from providers.engine.graph.config import GraphConfig
from providers.engine.graph.session import TokenIds, open_session, padded

# Prose of many kinds, languages, code, tables and fragments, written for this purpose. What matters is breadth: lengths
# from one character to a paragraph, scripts, punctuation.
_TEXTS = Path(__file__).with_name("calibration_texts.json")
_RUN_TOKENS = 256
# Examples kept, a token each; ranges are of all tokens.
_KEPT_TOKENS = 1024
_RANDOM_TEXTS = 120
_LONGEST_RANDOM = 128


@dataclass(frozen=True, slots=True)
class Sample:
    """One product's inputs: lowest and highest value by channel, (in,), and examples, (tokens, in)."""

    low: Array
    high: Array
    tokens: Array

    @staticmethod
    def of(samples: Sequence["Sample"]) -> "Sample":
        """Return one of several values: the ranges of all, and about as many examples as one has."""
        tokens = np.concatenate([each.tokens for each in samples])
        return Sample(
            np.min([each.low for each in samples], axis=0),
            np.max([each.high for each in samples], axis=0),
            tokens[:: len(samples)],
        )

    @property
    def ranges(self) -> Array:
        """Largest magnitude by channel."""
        return np.maximum(-self.low, self.high)

    def of_channels(self, channels: NDArray[np.int64]) -> "Sample":
        """Return the sample of these channels, in their order."""
        return Sample(self.low[channels], self.high[channels], self.tokens[:, channels])


# Of a session's inputs, what makes all of them from int64 (batch, length) ids and mask.
Feeding = Callable[
    [Sequence[Any]], Callable[[TokenIds, TokenIds], Mapping[str, NDArray[Any]]]
]


def plain_feed(
    entries: Sequence[Any],
) -> Callable[[TokenIds, TokenIds], Mapping[str, NDArray[Any]]]:
    """Return the feed of the graphs that are built here."""
    return lambda ids, mask: {"input_ids": ids, "attention_mask": mask}


AnyRow = TypeVar("AnyRow", bound=Sized)  # a row, as its owner holds it


class Tokenizer(Protocol):
    """The model's tokenizer."""

    @property
    def vocabulary_size(self) -> int:
        """Token ids are below this."""

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, special tokens included, int64 (tokens,)."""


def calibration_rows(
    tokenizer: Tokenizer,
    max_tokens: int | None,
    *,
    seed: int,
    vocabulary: int | None = None,
) -> list[TokenIds]:
    """Return the shipped texts, and random words framed as a text is, all within the limit, by length.

    `vocabulary`: how many tokens the model knows, where its tokenizer may have more.
    """
    limit = max_tokens or _LONGEST_RANDOM
    kinds = json.loads(_TEXTS.read_bytes())
    rows = tokenizer.encode([text for texts in kinds.values() for text in texts])
    before, after = _frame(tokenizer)
    longest = max(min(limit, _LONGEST_RANDOM) - len(before) - len(after), 1)
    words_below = min(tokenizer.vocabulary_size, vocabulary or sys.maxsize)
    random = np.random.default_rng(seed)
    for length in np.minimum(random.geometric(1 / 20, _RANDOM_TEXTS), longest):
        words = random.integers(0, words_below, length)
        rows.append(np.concatenate([before, words, after]))
    return sorted((row for row in rows if len(row) <= limit), key=len)


def take_samples(
    graph: Path, config: GraphConfig, rows: Sequence[TokenIds], *, threads: int
) -> Mapping[str, Sample]:
    """Run the exact graph and return what went into each of its products, by the product's name."""
    model = onnx.load(graph, load_external_data=False)
    sources = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Gemm" and node.name.startswith("layer.")
    }
    values = list(dict.fromkeys(sources.values()))
    for value in values:
        shape = ["tokens", None]
        model.graph.output.append(
            helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)
        )
    samples = sample_values(model, graph, values, rows, config.pad_id, threads=threads)
    return {name: samples[value] for name, value in sources.items()}


def sample_values(
    watching: onnx.ModelProto,
    graph: Path,
    values: Sequence[str],
    rows: Sequence[TokenIds],
    pad_id: int,
    *,
    threads: int,
    feeding: Feeding = plain_feed,
) -> Mapping[str, Sample]:
    """Run `watching`, which is `graph` with more outputs, on rows of token ids, and return what was in `values`.

    Those that are not one vector a token are left out.
    """
    watched = graph.with_name(f"{graph.stem}-watched.onnx")
    onnx.save(watching, watched)
    try:
        session = open_session(watched, threads=threads, packed=False)
    finally:
        watched.unlink()
    feed = feeding(session.get_inputs())
    kept = max(_KEPT_TOKENS / sum(len(row) for row in rows), 0.0)
    takers = {value: _Taker(kept) for value in values}
    for run in runs_of(rows):
        ids, mask = padded(run, pad_id)
        wanted = list(takers)
        answers = session.run(wanted, feed(ids, mask))
        for value, found in zip(wanted, answers, strict=True):
            if found.shape[:-1] in (ids.shape, (ids.size,)):
                tokens = found.reshape(ids.size, -1)
                takers[value].take(tokens[mask.ravel() != 0])
            else:
                del takers[value]
    return {value: taker.sample() for value, taker in takers.items()}


class _Taker:
    """Gathers one value's sample; `kept` is the share of tokens to keep as examples."""

    def __init__(self, kept: float) -> None:
        self._kept = kept
        self._low: list[Array] = []
        self._high: list[Array] = []
        self._tokens: list[Array] = []
        self._random = np.random.default_rng(0)

    def take(self, tokens: Array) -> None:
        """Look at float32 (tokens, channels)."""
        self._low.append(tokens.min(axis=0))
        self._high.append(tokens.max(axis=0))
        self._tokens.append(tokens[self._random.random(len(tokens)) < self._kept])

    def sample(self) -> Sample:
        """Return what was seen."""
        return Sample(
            np.min(self._low, axis=0),
            np.max(self._high, axis=0),
            np.concatenate(self._tokens),
        )


def runs_of(rows: Sequence[AnyRow]) -> Iterator[Sequence[AnyRow]]:
    """Cut rows, sorted by length, into runs of bounded size."""
    start = 0
    while start < len(rows):
        end = start + 1
        while end < len(rows) and len(rows[end]) * (end + 1 - start) <= _RUN_TOKENS:
            end += 1
        yield rows[start:end]
        start = end


def _frame(tokenizer: Tokenizer) -> tuple[TokenIds, TokenIds]:
    """Return the special tokens before and after a text's own."""
    one, two = tokenizer.encode(["a", "b"])
    differs = np.flatnonzero(one != two) if len(one) == len(two) else one[:0]
    if len(differs) == 0:
        return one[:0], one[:0]
    return one[: differs[0]], one[differs[-1] + 1 :]
