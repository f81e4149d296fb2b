"""Products in float32."""

from collections.abc import Mapping

from providers.engine.graph.checkpoint import Linear
from providers.engine.graph.encoder import activate
from providers.engine.graph.nodes import Nodes


class ExactProjections:
    """Computes as the checkpoint says."""

    def project(
        self, nodes: Nodes, x: str, name: str, linears: Mapping[str, Linear]
    ) -> list[str]:
        """Write each product with its bias."""
        return [
            self._product(nodes, x, f"{name}.{part}", linear)
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
        raised = self._product(nodes, x, f"{name}.inner", inner)
        active = activate(nodes, raised, activation)
        return self._product(nodes, active, f"{name}.outer", outer)

    def _product(self, nodes: Nodes, x: str, name: str, linear: Linear) -> str:
        weight = nodes.parameter(f"{name}.weight", linear.weight)
        bias = nodes.parameter(f"{name}.bias", linear.bias)
        return nodes.node("Gemm", [x, weight, bias], name)
