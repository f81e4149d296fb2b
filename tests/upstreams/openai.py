"""OpenAI, as strict as the real service and with its error bodies."""

from providers.plugins.openai import OpenAIProvider
from tests.upstreams.case import ProviderCase
from tests.upstreams.server import StubUpstream
from tests.upstreams.vectors import tokens_in


class OpenAIUpstream(StubUpstream):
    """https://platform.openai.com/docs/api-reference/embeddings/create"""

    path_prefix = "/v1"
    indexed = True
    models = {  # noqa: RUF012 -- a table
        "text-embedding-3-small": (1536, True),
        "text-embedding-3-large": (3072, True),
        "text-embedding-ada-002": (1536, False),
    }

    def answer(self, path, headers, body):
        self.require(path == "/v1/embeddings", 404, f"Invalid URL (POST {path})")
        bearer = headers.get("authorization") == f"Bearer {self.api_key}"
        self.require(bearer, 401, f"Incorrect API key provided: {self.api_key[:8]}***.")
        optional = {"encoding_format", "dimensions", "user"}
        self.require_fields(body, {"model", "input"}, optional)
        name = body["model"]
        self.require(name in self.models, 404, f"The model `{name}` does not exist.")
        self.require_texts(body["input"], 2048)
        tokens = sum(map(tokens_in, body["input"]))
        self.require(tokens <= 300_000, 400, "Requested over 300000 tokens.")
        size, flexible = self.models[name]
        dimensions = body.get("dimensions", size)
        self.require("dimensions" not in body or flexible, 400, "No such dimensions.")
        self.require(1 <= dimensions <= size, 400, f"At most {size} dimensions.")
        as_base64 = body.get("encoding_format") == "base64"
        context = {"model": name, "tokens": tokens, "base64": as_base64}
        return body["input"], "document", dimensions, context

    def render(self, rows, indexes, context):
        tokens = context["tokens"]
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": row}
                for index, row in zip(indexes, rows, strict=True)
            ],
            "model": context["model"],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def error(self, status, message):
        kind = "invalid_request_error"
        return {
            "error": {"message": message, "type": kind, "param": None, "code": None}
        }


CASES = (
    ProviderCase(
        id="openai",
        provider=OpenAIProvider,
        upstream=OpenAIUpstream,
        model="text-embedding-3-small",
        dimensions=1536,
        smaller=("text-embedding-3-large", 256),
        max_items=2048,
    ),
)
