"""Products in int8 with fixed scales (int8.py), of any ONNX graph. onnx and numpy only.

Products that read one value, or have the same parameters (ALBERT's layers do), are smoothed and scaled alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from providers.engine.graph.checkpoint import Array, Linear
from providers.engine.graph.int8 import (
    INNER_SMOOTHING,
    SMOOTHING,
    Levels,
    copies_of,
    divisors_of,
)
from providers.engine.graph.nodes import Nodes
from providers.engine.graph.products import Product, ProductGraph
from providers.engine.graph.samples import Feeding, Sample, plain_feed, sample_values
from providers.engine.graph.session import TokenIds
from providers.engine.graph.settings import Unbuildable


def build_static(
    exact: Path,
    path: Path,
    rows: Sequence[TokenIds],
    pad_id: int,
    *,
    threads: int,
    feeding: Feeding = plain_feed,
) -> None:
    """Write the graph at `exact` to `path`, in the same folder, with its tokens' products in int8. Raises Unbuildable.

    `rows`: token ids of texts to calibrate with, int64 (tokens,), special tokens included, by length.
    """
    graph = ProductGraph(exact)
    values = list(dict.fromkeys(product.x for product in graph.products))
    samples = sample_values(
        graph.watching(values),
        exact,
        values,
        rows,
        pad_id,
        threads=threads,
        feeding=feeding,
    )
    products = [product for product in graph.products if product.x in samples]
    if not products:
        raise Unbuildable(f"no product of {exact.name} is of one vector a token")
    groups = {
        product.x: group
        for group in _groups(products, samples, graph)
        for product in group.products
    }
    graph.write(path, products, lambda nodes, p: groups[p.x].write(nodes, p))


@dataclass(frozen=True)
class _Group:
    """Products of one sample. An input channel whose parameters would stick out is split, as in int8.py."""

    products: Sequence[Product]
    sample: Sample
    graph: ProductGraph
    _levels: dict[str, Levels] = field(default_factory=dict)

    def write(self, nodes: Nodes, product: Product) -> None:
        """Write one of the products."""
        x = product.x
        if x not in self._levels:
            channels = self._channels
            value, extra = x, channels[len(self.sample.low) :]
            if len(extra):
                which = nodes.parameter(f"{x}.split", extra)
                again = nodes.node("Gather", [x, which], f"{x}.again", axis=-1)
                value = nodes.node("Concat", [x, again], f"{x}.copied", axis=-1)
            self._levels[x] = Levels(
                nodes,
                value,
                x,
                self._divisors[channels],
                self.sample.of_channels(channels),
            )
        linear = self.graph.linear(product)
        shared = linear.weight[self._channels] / self._counts[self._channels, None]
        self._levels[x].product(
            nodes,
            product.output,
            Linear(shared.astype(np.float32), linear.bias),
            f"{product.weight}+{product.bias or ''}.int8",
        )

    @cached_property
    def _extents(self) -> Array:
        """Largest magnitude of a parameter by input channel."""
        by_name = {product.weight: product for product in self.products}
        read = (self.graph.linear(each).weight for each in by_name.values())
        found: Array = np.max([np.abs(weight).max(axis=1) for weight in read], axis=0)
        return found

    @property
    def _narrows(self) -> bool:
        """Whether this is the second product of a feed-forward layer."""
        weight = self.graph.linear(self.products[0]).weight
        return len({each.weight for each in self.products}) == 1 and (
            weight.shape[0] > weight.shape[1]
        )

    @cached_property
    def _divisors(self) -> Array:
        smoothing = INNER_SMOOTHING if self._narrows else SMOOTHING
        return divisors_of(self.sample.ranges, self._extents[:, None], smoothing)

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        if not self._narrows:
            return np.ones(len(self._divisors), np.int64)
        return copies_of(self._extents * self._divisors)

    @cached_property
    def _channels(self) -> NDArray[np.int64]:
        """Which channels are computed: all, then those again that are split."""
        every = np.arange(len(self._counts))
        return np.concatenate([every, np.repeat(every, self._counts - 1)])


def _groups(
    products: Sequence[Product], samples: Mapping[str, Sample], graph: ProductGraph
) -> list[_Group]:
    """Put products together that share a value or parameters, directly or through others."""
    members: list[list[Product]] = []
    for product in products:
        joined = [
            group
            for group in members
            if any(product.x == p.x or product.weight == p.weight for p in group)
        ]
        members = [group for group in members if group not in joined]
        members.append([*(p for group in joined for p in group), product])
    return [
        _Group(
            group,
            Sample.of([samples[x] for x in dict.fromkeys(p.x for p in group)]),
            graph,
        )
        for group in members
    ]
