"""Products in float32."""

from providers.engine.checkpoint import Linear
from providers.engine.graph.encoder import activate
from providers.engine.graph.nodes import FUSED, Nodes


class ExactProjections:
    """Computes as the checkpoint says."""

    def project(self, nodes: Nodes, x: str, name: str, linear: Linear) -> str:
        """Write MatMul and Add."""
        product = self._product(nodes, x, name, linear)
        bias = nodes.parameter(f"{name}.bias", linear.bias)
        return nodes.node("Add", [product, bias], name)

    def feed_forward(
        self,
        nodes: Nodes,
        x: str,
        name: str,
        inner: Linear,
        outer: Linear,
        activation: str,
    ) -> str:
        """Write both products; bias and GELU in one pass over the wide value between them."""
        raised = f"{name}.inner"
        if activation in ("gelu", "gelu_python"):
            product = self._product(nodes, x, raised, inner)
            bias = nodes.parameter(f"{raised}.bias", inner.bias)
            active = nodes.node("BiasGelu", [product, bias], f"{raised}.active", FUSED)
        else:
            active = activate(nodes, self.project(nodes, x, raised, inner), activation)
        return self.project(nodes, active, f"{name}.outer", outer)

    def _product(self, nodes: Nodes, x: str, name: str, linear: Linear) -> str:
        weight = nodes.parameter(f"{name}.weight", linear.weight)
        return nodes.node("MatMul", [x, weight], f"{name}.product")
