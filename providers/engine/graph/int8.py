"""Products in int8 with fixed scales, so that a text's vector does not depend on what else is in its batch.

Activations are quantised to uint8 with one scale a tensor, parameters to int8 with one scale a column. Transformers put
a few channels far out of range of the others, which one scale cannot serve, so (all measured in docs/performance.md):

- channels are brought to like ranges first, and their parameters the other way (SmoothQuant, arXiv:2211.10438);
- a feed-forward channel whose parameters would then stick out is computed several times, and its parameters shared
  among the copies (after outlier channel splitting, arXiv:1901.09504);
- the mean error over the calibration tokens is taken off the bias.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from providers.engine.graph.checkpoint import Array, Linear
from providers.engine.graph.nodes import FUSED, Nodes
from providers.engine.graph.parts import activate, multiplied
from providers.engine.graph.samples import Sample

# How much of a channel's range is moved into the parameters, 0 to 1.
SMOOTHING = 0.7
# The feed-forward layers' inner channels differ by more, and splitting keeps their parameters in range.
INNER_SMOOTHING = 0.9
_COPIES = 16
# A channel that calibration hardly moved may move more later.
_LEAST_RANGE = 0.5
_WEIGHT_LEVELS = 127
_ACTIVATION_LEVELS = 255


class Int8Projections:
    """Quantises every product for the inputs that `samples` shows, by the product's name."""

    def __init__(self, samples: Mapping[str, Sample]) -> None:
        self._samples = samples

    def project(
        self, nodes: Nodes, x: str, name: str, linears: Mapping[str, Linear]
    ) -> list[str]:
        """Write each product. A value that is used elsewhere, too, is smoothed on its way into these alone."""
        first = f"{name}.{next(iter(linears))}"
        sample = self._samples[first]
        weight = np.concatenate([linear.weight for linear in linears.values()], axis=1)
        divisors = (
            np.ones(len(weight), np.float32)
            if "output" in linears  # whose channels are of like range already
            else divisors_of(sample.ranges, weight, SMOOTHING)
        )
        levels = Levels(nodes, x, first, divisors, sample)
        return [
            levels.product(nodes, f"{name}.{part}", linear)
            for part, linear in linears.items()
        ]

    def feed_forward(
        self,
        nodes: Nodes,
        x: str,
        name: str,
        inner: Linear,
        outer: Linear,
        activation: str,
    ) -> str:
        """Write both products, with copies of the inner channels that stand out."""
        split = _Split(self._samples[f"{name}.outer"], outer)
        [raised] = self.project(nodes, x, name, {"inner": split.copies(inner)})
        active = activate(nodes, raised, activation)
        return split.product(nodes, active, f"{name}.outer")

    def gated(
        self,
        nodes: Nodes,
        x: str,
        name: str,
        gate: Linear,
        up: Linear,
        down: Linear,
        activation: str,
    ) -> str:
        """Write the three products, with copies of the inner channels that stand out."""
        split = _Split(self._samples[f"{name}.down"], down)
        linears = {"gate": split.copies(gate), "up": split.copies(up)}
        opened, raised = self.project(nodes, x, name, linears)
        inner = multiplied(nodes, opened, raised, activation)
        return split.product(nodes, inner, f"{name}.down")


class _Split:
    """A product whose input channels are computed several times where its parameters would stick out."""

    def __init__(self, sample: Sample, linear: Linear) -> None:
        self._sample, self._linear = sample, linear
        self._divisors = divisors_of(sample.ranges, linear.weight, INNER_SMOOTHING)
        weight = np.abs(linear.weight * self._divisors[:, None])
        self._counts = copies_of(weight.max(axis=1))
        self._copied = np.repeat(np.arange(len(self._counts)), self._counts)

    def copies(self, before: Linear) -> Linear:
        """Return the product that computes the input channels, with the copies."""
        bias = None if before.bias is None else before.bias[self._copied]
        return Linear(before.weight[:, self._copied], bias)

    def product(self, nodes: Nodes, x: str, name: str) -> str:
        """Write the product with the copies, under `name`."""
        copied = self._copied
        shared = self._linear.weight[copied] / self._counts[copied, None]
        sample = self._sample.of_channels(copied)
        levels = Levels(nodes, x, name, self._divisors[copied], sample)
        linear = Linear(shared.astype(np.float32), self._linear.bias)
        return levels.product(nodes, name, linear)


def divisors_of(ranges: Array, weight: Array, smoothing: float) -> Array:
    """Return what to divide each input channel by, (in,), their geometric mean 1."""
    ranges = np.maximum(ranges, max(_LEAST_RANGE * float(np.median(ranges)), 1e-6))
    rows = np.maximum(np.abs(weight).max(axis=1), 1e-6)
    logarithms = smoothing * np.log(ranges) - (1 - smoothing) * np.log(rows)
    return np.asarray(np.exp(logarithms - logarithms.mean()), np.float32)


def copies_of(extents: Array) -> NDArray[np.int64]:
    """Return how often to compute each channel, (channels,), so that the largest extent of a copy becomes small."""
    counts = np.ones(len(extents), np.int64)
    for _ in range(_COPIES):
        counts[np.argmax(extents / counts)] += 1
    return counts


class Levels:
    """A value in uint8, each channel divided by its own divisor before; writes the products with it."""

    def __init__(
        self, nodes: Nodes, x: str, name: str, divisors: Array, sample: Sample
    ) -> None:
        low = min(float((sample.low / divisors).min()), 0.0)
        high = max(float((sample.high / divisors).max()), 0.0)
        step = max(high - low, 1e-12) / _ACTIVATION_LEVELS
        zero = int(np.rint(-low / step))
        tokens = sample.tokens / divisors
        levels = np.clip(np.rint(tokens / step) + zero, 0, _ACTIVATION_LEVELS) - zero
        self._divisors = divisors
        self._tokens = sample.tokens
        self._quantised_tokens = levels * step

        if (divisors != 1).any():
            factors = nodes.parameter(f"{name}.factors", np.float32(1) / divisors)
            x = nodes.node("Mul", [x, factors], f"{name}.smoothed")
        self._step = nodes.parameter(f"{name}.step", np.array(step, np.float32))
        self._zero = nodes.parameter(f"{name}.zero", np.array(zero, np.uint8))
        self._name = nodes.node(
            "QuantizeLinear", [x, self._step, self._zero], f"{name}.levels"
        )

    def product(
        self, nodes: Nodes, name: str, linear: Linear, stored: str | None = None
    ) -> str:
        """Write `x @ weight + bias` under `name`, the bias less the mean error over the sample's tokens.

        The parameters go by `stored`, `name` without it.
        """
        stored = stored or name
        weight = linear.weight * self._divisors[:, None]
        scales = np.maximum(np.abs(weight).max(axis=0), 1e-12) / _WEIGHT_LEVELS
        quantised = np.rint(weight / scales).astype(np.int8)
        computed = self._quantised_tokens @ (quantised * scales)
        error = computed - self._tokens @ linear.weight
        bias = -error.mean(axis=0)
        if linear.bias is not None:
            bias = linear.bias + bias
        inputs = [
            self._name,
            nodes.parameter(f"{stored}.weight", quantised),
            self._step,
            nodes.parameter(f"{stored}.scales", scales.astype(np.float32)),
            self._zero,
            "",
            nodes.parameter(f"{stored}.bias", bias.astype(np.float32)),
        ]
        return nodes.node("MatMulIntegerToFloat", inputs, name, FUSED)
