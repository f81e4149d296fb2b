"""Which tokens of a text see which. Standard library only."""

from dataclasses import dataclass

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The attention of an encoder's layers.

    `kinds`: each layer's, FULL or SLIDING; a token of a sliding layer sees those at most `window` away. `causal`: none
    sees a later one. `scale`: of the products of queries and keys. Several heads may share one of `key_heads`.
    """

    heads: int
    key_heads: int
    head_size: int
    kinds: tuple[str, ...]
    scale: float
    window: int = 0
    causal: bool = False
