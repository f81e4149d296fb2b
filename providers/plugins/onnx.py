"""The fast one: models run here in int8, the same vector for a text whatever else is in its batch.

Cosine to the exact vectors is at least 0.97 for every text and 0.995 on average; a model that int8 does not serve that
well is served in float32.
"""

from typing import ClassVar

from providers.base import Precision
from providers.engine.local_provider import LocalProvider


class OnnxProvider(LocalProvider):
    """Serves the same models as `huggingface`, from the same files."""

    name = "onnx"
    order = 3
    fallback = ("huggingface", "local_api")
    precision: ClassVar[Precision] = "fast"
