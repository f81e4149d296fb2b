"""A server of the operator's own: OpenAI-compatible, text-embeddings-inference, Ollama.

`provider` holds the plug-in, `formats` the three wire formats.
"""

from providers.plugins.local_api.provider import LocalApiProvider

__all__ = ["LocalApiProvider"]
