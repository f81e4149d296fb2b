"""Voyage AI, as strict as the real service and with its error bodies."""

from providers.plugins.voyage import VoyageProvider
from tests.upstreams.case import ProviderCase
from tests.upstreams.server import StubUpstream
from tests.upstreams.vectors import tokens_in


class VoyageUpstream(StubUpstream):
    """https://docs.voyageai.com/reference/embeddings-api"""

    path_prefix = "/v1"
    indexed = True
    sizes = (256, 512, 1024, 2048)
    flexible = frozenset(
        [
            "voyage-4-large",
            "voyage-4",
            "voyage-4-lite",
            "voyage-3-large",
            "voyage-3.5",
            "voyage-3.5-lite",
            "voyage-code-3",
        ]
    )
    fixed = frozenset({"voyage-finance-2", "voyage-law-2"})
    request_tokens = {"voyage-4-lite": 1_000_000, "voyage-4": 320_000}  # noqa: RUF012

    def answer(self, path, headers, body):
        self.require(path == "/v1/embeddings", 404, "Not Found")
        bearer = headers.get("authorization") == f"Bearer {self.api_key}"
        self.require(bearer, 401, "Provided API key is invalid.")
        optional = {"input_type", "truncation", "encoding_format", "output_dimension"}
        self.require_fields(body, {"model", "input"}, optional | {"output_dtype"})
        name = body["model"]
        known = name in self.flexible | self.fixed
        self.require(known, 400, f"Model {name} is not supported.")
        self.require_texts(body["input"], 1000)
        tokens = sum(map(tokens_in, body["input"]))
        most = self.request_tokens.get(name, 120_000)
        self.require(tokens <= most, 400, f"More than {most} tokens in the batch.")
        self.require(body["input_type"] in ("query", "document"), 400, "input_type?")
        dimensions = body.get("output_dimension", 1024)
        allowed = self.sizes if name in self.flexible else (1024,)
        self.require(dimensions in allowed, 400, f"output_dimension not in {allowed}")
        as_base64 = body.get("encoding_format") == "base64"
        context = {"model": name, "tokens": tokens, "base64": as_base64}
        return body["input"], body["input_type"], dimensions, context

    def render(self, rows, indexes, context):
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "embedding": row, "index": index}
                for index, row in zip(indexes, rows, strict=True)
            ],
            "model": context["model"],
            "usage": {"total_tokens": context["tokens"]},
        }

    def error(self, status, message):
        return {"detail": message}


CASES = (
    ProviderCase(
        id="voyage",
        provider=VoyageProvider,
        upstream=VoyageUpstream,
        model="voyage-4-lite",
        dimensions=1024,
        smaller=("voyage-4-large", 256),
        input_types=True,
        max_items=1000,
    ),
)
