"""Products in float32."""

from collections.abc import Mapping

from providers.engine.graph.checkpoint import Linear
from providers.engine.graph.nodes import Nodes
from providers.engine.graph.parts import activate, multiplied, product


class ExactProjections:
    """Computes as the checkpoint says."""

    def project(
        self, nodes: Nodes, x: str, name: str, linears: Mapping[str, Linear]
    ) -> list[str]:
        """Write each product with its bias."""
        return [
            product(nodes, x, f"{name}.{part}", linear)
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
        """Write both products, and the activation between them."""
        raised = product(nodes, x, f"{name}.inner", inner)
        active = activate(nodes, raised, activation)
        return product(nodes, active, f"{name}.outer", outer)

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
        """Write the three products, and the activation and gate between them."""
        opened, raised = self.project(nodes, x, name, {"gate": gate, "up": up})
        inner = multiplied(nodes, opened, raised, activation)
        return product(nodes, inner, f"{name}.down", down)
