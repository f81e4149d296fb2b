"""Mistral, as strict as the real service and with its error bodies."""

from providers.plugins.mistral import MistralProvider
from tests.upstreams.case import ProviderCase
from tests.upstreams.server import StubUpstream
from tests.upstreams.vectors import tokens_in


class MistralUpstream(StubUpstream):
    """https://docs.mistral.ai/api/endpoint/embeddings"""

    indexed = True
    models = {  # noqa: RUF012
        "mistral-embed": (1024, 1024),
        "codestral-embed": (1536, 3072),
    }

    def answer(self, path, headers, body):
        self.require(
            path == "/v1/embeddings", 404, "no Route matched with those values"
        )
        bearer = headers.get("authorization") == f"Bearer {self.api_key}"
        self.require(bearer, 401, "Unauthorized")
        optional = {"encoding_format", "output_dimension", "output_dtype"}
        self.require_fields(body, {"model", "input"}, optional, 422)
        name = body["model"]
        self.require(name in self.models, 400, f"Invalid model: {name}")
        self.require_texts(body["input"], 128, 400)
        tokens = sum(map(tokens_in, body["input"]))
        self.require(tokens <= 16_384, 400, "Too many tokens in batch.")
        size, most = self.models[name]
        dimensions = body.get("output_dimension", size)
        flexible = "output_dimension" not in body or name == "codestral-embed"
        self.require(flexible and 1 <= dimensions <= most, 400, "output_dimension?")
        return body["input"], "document", dimensions, {"model": name, "tokens": tokens}

    def render(self, rows, indexes, context):
        tokens = context["tokens"]
        return {
            "id": "cf79f7daaee244b1a0ae5c7b1444424a",
            "object": "list",
            "model": context["model"],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "data": [
                {"object": "embedding", "embedding": row, "index": index}
                for index, row in zip(indexes, rows, strict=True)
            ],
        }

    def error(self, status, message):
        if status == 422:
            return {"detail": [{"type": "extra", "loc": ["body"], "msg": message}]}
        return {"object": "error", "message": message, "type": "x", "code": "3051"}


CASES = (
    ProviderCase(
        id="mistral",
        provider=MistralProvider,
        upstream=MistralUpstream,
        model="mistral-embed",
        dimensions=1024,
        smaller=("codestral-embed", 256),
        max_items=128,
    ),
)
