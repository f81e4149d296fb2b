"""Cohere, as strict as the real service and with its error bodies."""

from providers.plugins.cohere import CohereProvider
from tests.upstreams.case import ProviderCase
from tests.upstreams.server import StubUpstream
from tests.upstreams.vectors import tokens_in


class CohereUpstream(StubUpstream):
    """https://docs.cohere.com/reference/embed"""

    models = {  # noqa: RUF012
        "embed-v5.0-pro": (2048, (256, 512, 768, 1024, 1536, 2048)),
        "embed-v5.0-fast": (2048, (256, 512, 768, 1024, 1536, 2048)),
        "embed-v4.0": (1536, (256, 512, 1024, 1536)),
        "embed-english-v3.0": (1024, ()),
        "embed-multilingual-v3.0": (1024, ()),
    }
    input_types = {  # noqa: RUF012
        "search_query": "query",
        "search_document": "document",
    }

    def answer(self, path, headers, body):
        self.require(path == "/v2/embed", 404, "page not found")
        bearer = headers.get("authorization") == f"Bearer {self.api_key}"
        self.require(bearer, 401, "invalid api token")
        required = {"model", "input_type", "embedding_types", "texts"}
        self.require_fields(body, required, {"truncate", "output_dimension"}, 422)
        name = body["model"]
        self.require(name in self.models, 404, f"model '{name}' not found")
        self.require(body["input_type"] in self.input_types, 400, "invalid input_type")
        self.require(body["embedding_types"] == ["float"], 400, "float only, here")
        self.require(body.get("truncate") == "NONE", 400, "the stub truncates nothing")
        self.require_texts(body["texts"], 96)
        size, sizes = self.models[name]
        dimensions = body.get("output_dimension", size)
        allowed = dimensions in sizes or "output_dimension" not in body
        self.require(allowed, 422, f"output_dimension must be one of {sizes}")
        texts = body["texts"]
        context = {"texts": texts, "tokens": sum(map(tokens_in, texts))}
        return texts, self.input_types[body["input_type"]], dimensions, context

    def render(self, rows, indexes, context):
        return {
            "id": "da6e531f-54c5-4a73-bf92-f60566d8d753",
            "embeddings": {"float": rows},
            "texts": context["texts"],
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"input_tokens": context["tokens"]},
            },
            "response_type": "embeddings_by_type",
        }

    def error(self, status, message):
        return {"id": "3a1c6f1e", "message": message}


CASES = (
    ProviderCase(
        id="cohere",
        provider=CohereProvider,
        upstream=CohereUpstream,
        model="embed-english-v3.0",
        dimensions=1024,
        smaller=("embed-v4.0", 256),
        input_types=True,
        max_items=96,
    ),
)
