"""Servers that operators run themselves: OpenAI-compatible, TEI, Ollama."""

from providers.plugins.local_api import LocalApiProvider
from tests.upstreams.case import ProviderCase
from tests.upstreams.server import StubUpstream
from tests.upstreams.vectors import tokens_in

DIMENSIONS = 768
LOCAL_MODEL = "nomic-embed-text:v1.5"


class _OperatorsUpstream(StubUpstream):
    """`key_required` False takes requests with and without a key."""

    key_required = False
    model = LOCAL_MODEL

    def check_key(self, headers):
        given = headers.get("authorization")
        allowed = {f"Bearer {self.api_key}"} | (set() if self.key_required else {None})
        self.require(given in allowed, 401, "unauthorized")


class CompatibleUpstream(_OperatorsUpstream):
    """Any OpenAI-compatible server; `max_items` 32 makes it TEI's `/v1`."""

    path_prefix = "/v1"
    indexed = True
    max_items = 2048

    def answer(self, path, headers, body):
        self.require(path == f"{self.path_prefix}/embeddings", 404, "Not Found")
        self.check_key(headers)
        self.require_fields(body, {"model", "input"}, {"encoding_format"}, 422)
        self.require(body["model"] == self.model, 404, "model not found")
        self.require_texts(body["input"], self.max_items, 413)
        tokens = sum(map(tokens_in, body["input"]))
        return body["input"], "document", DIMENSIONS, {"tokens": tokens}

    def render(self, rows, indexes, context):
        tokens = context["tokens"]
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": row}
                for index, row in zip(indexes, rows, strict=True)
            ],
            "model": self.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def error(self, status, message):
        return {"error": {"message": message, "type": "error", "code": status}}


class ServiceUpstream(CompatibleUpstream):
    """A service whose address does not end in `/v1`, as DeepInfra's."""

    path_prefix = "/v1/openai"
    key_required = True


class TeiUpstream(_OperatorsUpstream):
    """https://huggingface.github.io/text-embeddings-inference/"""

    max_tokens_per_text = 512

    def answer(self, path, headers, body):
        self.require(path == "/embed", 404, "Not Found")
        self.check_key(headers)
        optional = {"truncate", "normalize", "prompt_name", "truncation_direction"}
        self.require_fields(body, {"inputs"}, optional, 422)
        self.require_texts(body["inputs"], 32, 413)
        counts = [tokens_in(text) for text in body["inputs"]]
        fits = max(counts) <= self.max_tokens_per_text or body.get("truncate")
        self.require(fits, 413, "inputs must have less than 512 tokens")
        return body["inputs"], "document", DIMENSIONS, {"tokens": sum(counts)}

    def render(self, rows, indexes, context):
        return rows

    def answer_headers(self, context):
        return {"x-compute-tokens": context["tokens"], "x-compute-type": "cpu"}

    def error(self, status, message):
        kinds = {413: "Validation", 422: "Tokenizer", 424: "Backend", 429: "Overloaded"}
        return {"error": message, "error_type": kinds.get(status, "Unhealthy")}


class OllamaUpstream(_OperatorsUpstream):
    """https://docs.ollama.com/api/embed"""

    def answer(self, path, headers, body):
        self.require(path == "/api/embed", 404, "404 page not found")
        self.check_key(headers)
        optional = {"truncate", "dimensions", "keep_alive", "options"}
        self.require_fields(body, {"model", "input"}, optional)
        known = body["model"] == self.model
        self.require(known, 404, f'model "{body["model"]}" not found')
        self.require_texts(body["input"], 100_000)
        tokens = sum(map(tokens_in, body["input"]))
        return body["input"], "document", DIMENSIONS, {"tokens": tokens}

    def render(self, rows, indexes, context):
        return {
            "model": self.model,
            "embeddings": rows,
            "total_duration": 14143917,
            "load_duration": 1019500,
            "prompt_eval_count": context["tokens"],
        }

    def error(self, status, message):
        return {"error": message}


CASES = (
    ProviderCase(
        id="local_api-openai",
        provider=LocalApiProvider,
        upstream=CompatibleUpstream,
        model=LOCAL_MODEL,
        dimensions=DIMENSIONS,
        max_items=32,
    ),
    ProviderCase(
        id="local_api-openai-exact",
        provider=LocalApiProvider,
        upstream=ServiceUpstream,
        model=LOCAL_MODEL,
        dimensions=DIMENSIONS,
        max_items=32,
        options={"kind": "openai-exact"},
    ),
    ProviderCase(
        id="local_api-tei",
        provider=LocalApiProvider,
        upstream=TeiUpstream,
        model=LOCAL_MODEL,
        dimensions=DIMENSIONS,
        max_items=32,
        options={"kind": "tei"},
    ),
    ProviderCase(
        id="local_api-ollama",
        provider=LocalApiProvider,
        upstream=OllamaUpstream,
        model=LOCAL_MODEL,
        dimensions=DIMENSIONS,
        max_items=32,
        options={"kind": "ollama"},
    ),
)
