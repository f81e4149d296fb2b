"""The reference: models run here in float32, to within rounding of sentence-transformers."""

from providers.engine.local_provider import LocalProvider
from providers.engine.vocabulary import prepare_vocabulary


class HuggingFaceProvider(LocalProvider):
    """Serves the default model, models of the Hugging Face hub and local folders."""

    name = "huggingface"
    order = 2
    fallback = ("onnx", "local_api")


__all__ = ["HuggingFaceProvider", "prepare_vocabulary"]
