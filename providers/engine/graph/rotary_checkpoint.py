"""Parameters of an encoder with rotary positions, under one set of names. numpy and safetensors only."""

from collections.abc import Iterable, Iterator

import numpy as np

from providers.engine.graph.checkpoint import (
    Array,
    Linear,
    Norm,
    Parameters,
    Shape,
    Tensors,
)
from providers.engine.graph.rotary_config import LINEARS, RotaryConfig


class RotaryCheckpoint:
    """The parameters of one encoder, read when asked for. Raises Unbuildable where the config asks for others."""

    def __init__(self, tensors: Tensors, config: RotaryConfig) -> None:
        self._config = config
        self._parameters = Parameters(tensors, config.names.words, config.names.former)
        self._parameters.check(self._shapes())

    def words(self) -> Array:
        """Word embeddings, (vocabulary, hidden), scaled, with that of token type 0 added: every token here has it."""
        words = self._parameters.array(self._config.names.words)
        if self._config.embedding_scale != 1:
            words = words * np.float32(self._config.embedding_scale)
        types = self._config.names.types
        return words if types is None else words + self._parameters.array(types)[0]

    def embeddings_norm(self) -> Norm | None:
        """Normalisation after the embeddings, if there is one."""
        return self._norm(self._config.names.embeddings_norm)

    def final_norm(self) -> Norm | None:
        """Normalisation after the last layer, if there is one."""
        return self._norm(self._config.names.final_norm)

    def layer_norm(self, layer: int, name: str | None) -> Norm | None:
        """One of a layer's normalisations, if it has that."""
        return self._norm(None if name is None else self._prefix(layer) + name)

    def linears(self, layer: int, parts: Iterable[str]) -> dict[str, Linear]:
        """Return these of a layer's LINEARS: weights (in, out)."""
        found = {}
        for name, joined in self._stored(layer):
            if not set(joined) & set(parts):
                continue
            whole = self._parameters.linear(name)
            ends = np.cumsum([self._sides(part)[0] for part in joined])[:-1]
            weights = np.split(whole.weight, ends, axis=1)
            biases: list[Array | None] = [None] * len(joined)
            if whole.bias is not None:
                biases = [*np.split(whole.bias, ends)]
            for part, weight, bias in zip(joined, weights, biases, strict=True):
                found[part] = Linear(weight, bias)
        return {part: found[part] for part in parts}

    def _norm(self, name: str | None) -> Norm | None:
        if name is None:
            return None
        norm = self._parameters.norm(name)
        if self._config.norm_offset == 0:
            return norm
        return Norm(np.float32(self._config.norm_offset) + norm.scale, norm.shift)

    def _prefix(self, layer: int) -> str:
        return self._config.names.layer.format(layer)

    def _stored(self, layer: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the names of a layer's linear parameters, and which of LINEARS each of them is, in their order."""
        names, prefix = self._config.names, self._prefix(layer)
        apart = [*LINEARS]
        for name, parts in names.joined.items():
            always = parts[0] not in names.linears
            if always or f"{prefix}{name}.weight" in self._parameters.names:
                apart = [part for part in apart if part not in parts]
                yield prefix + name, parts
        for part in apart:
            yield prefix + names.linears[part], (part,)

    def _sides(self, part: str) -> tuple[int, int]:
        """Return a linear's channels out and in."""
        config = self._config
        queries = config.heads * config.head_size
        keys = config.key_heads * config.head_size
        return {
            "query": (queries, config.hidden),
            "key": (keys, config.hidden),
            "value": (keys, config.hidden),
            "output": (config.hidden, queries),
            "gate": (config.inner, config.hidden),
            "up": (config.inner, config.hidden),
            "down": (config.hidden, config.inner),
        }[part]

    def _shapes(self) -> dict[str, Shape]:
        """Return what the config asks for: shapes by name."""
        config, names = self._config, self._config.names
        shapes: dict[str, Shape] = {names.words: (config.vocabulary, config.hidden)}
        if names.types is not None:
            shapes[names.types] = (None, config.hidden)
        norms = dict.fromkeys(
            (name for name in (names.embeddings_norm, names.final_norm) if name),
            config.hidden,
        )
        for layer in range(len(config.kinds)):
            shapes |= self._shapes_of_linears(layer)
            norms |= self._sizes_of_norms(layer)
        for name, channels in norms.items():
            shapes[f"{name}.weight"] = (channels,)
            if "norm" in config.biased:
                shapes[f"{name}.bias"] = (channels,)
        return shapes

    def _shapes_of_linears(self, layer: int) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for name, parts in self._stored(layer):
            out = sum(self._sides(part)[0] for part in parts)
            shapes[f"{name}.weight"] = (out, self._sides(parts[0])[1])
            if parts[0] in self._config.biased:
                shapes[f"{name}.bias"] = (out,)
        return shapes

    def _sizes_of_norms(self, layer: int) -> dict[str, int]:
        config, names, prefix = self._config, self._config.names, self._prefix(layer)
        places = {**names.attention_norms}
        if config.bare_first and layer == 0:
            del places["before"]
        hidden = [*places.values(), *names.feed_forward_norms.values()]
        sizes = {prefix + name: config.hidden for name in hidden}
        heads = names.head_norms.values()
        return sizes | {prefix + name: config.head_size for name in heads}
