"""The plug-in `local_api`: any model name is passed on to one server."""

import re
from collections.abc import Mapping
from typing import Any

from providers.base import ModelSpec
from providers.plugins.local_api.formats import FORMATS
from providers.remote import Answer, Batch, Call, Clocks, Limits, RemoteProvider, Reply

_MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.:/@+\-]{0,199}", re.ASCII)


class LocalApiProvider(RemoteProvider):
    """Options beside the common ones: `kind`, one of openai (default), tei, ollama.

    32 texts a request, as text-embeddings-inference refuses more by default, also on
    its `/v1`; the others lose nothing by it.
    """

    name = "local_api"
    order = 4
    fallback = ("huggingface",)
    key_variable = "LOCAL_API_KEY"
    url_variable = "LOCAL_API_URL"
    choices = {"LOCAL_API_KIND": ("openai", "tei", "ollama")}  # noqa: RUF012 -- a table
    key_required = False
    limits = Limits(max_items=32)
    parallel_requests = 2

    def __init__(
        self, options: Mapping[str, Any], *, clocks: Clocks | None = None
    ) -> None:
        super().__init__(options, clocks=clocks)
        self.base_url = self.base_url.removesuffix("/v1")
        kind = options.get("kind") or "openai"
        if kind not in FORMATS:
            raise ValueError(f"LOCAL_API_KIND must be one of {', '.join(FORMATS)}")
        self._format = FORMATS[kind]()

    def build(self, batch: Batch) -> Call:
        return self._format.build(batch)

    def read(self, reply: Reply) -> Answer:
        return self._format.read(reply)

    def resolve(self, name: str) -> ModelSpec | None:
        """Return a model of any sane name; its size shows with the first answer."""
        if not _MODEL_NAME.fullmatch(name):
            return None
        return ModelSpec(
            name=name,
            dimensions=None,
            max_tokens=None,
            vector_space=f"local_api/{name}",
        )
