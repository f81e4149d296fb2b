"""The same models and, for now, the same exact graphs as `huggingface`, from the same copy in memory."""

from typing import ClassVar

from providers.engine.provider import LocalProvider


class OnnxProvider(LocalProvider):
    """Serves local models by ONNX Runtime."""

    name: ClassVar[str] = "onnx"
