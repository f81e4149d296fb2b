"""The hosted services, as strict as the real ones and with their error bodies."""

import re

from tests.upstreams.faults import Fault
from tests.upstreams.server import Refusal, StubUpstream
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


class GoogleUpstream(StubUpstream):
    """https://ai.google.dev/api/embeddings"""

    models = {  # noqa: RUF012
        "gemini-embedding-001": 3072,
        "gemini-embedding-2": 3072,
    }
    task_types = {  # noqa: RUF012
        "RETRIEVAL_QUERY": "query",
        "RETRIEVAL_DOCUMENT": "document",
    }
    prompts = {  # noqa: RUF012
        "task: search result | query: ": "query",
        "title: none | text: ": "document",
    }

    def answer(self, path, headers, body):
        match = re.fullmatch(r"/v1beta/models/([\w.\-]+):batchEmbedContents", path)
        self.require(match, 404, "Not found")
        assert match
        self._check_key(headers.get("x-goog-api-key"))
        name = match[1]
        self.require(name in self.models, 404, f"models/{name} is not found.")
        self.require_fields(body, {"requests"}, set())
        entries = body["requests"]
        self.require(entries and len(entries) <= 100, 400, "at most 100 requests")
        read = [self._entry(entry, name) for entry in entries]
        texts, kinds, sizes = (list(column) for column in zip(*read, strict=True))
        self.require(len(set(kinds)) == len(set(sizes)) == 1, 400, "mixed, in a stub")
        self.require(128 <= sizes[0] <= 3072, 400, "output_dimensionality out of range")
        tokens = sum(map(tokens_in, texts))
        return texts, kinds[0], sizes[0], {"tokens": tokens}

    def _check_key(self, key):
        if key is None:
            message = "Method doesn't allow unregistered callers."
            raise Refusal(403, self.error(403, message))
        if key != self.api_key:
            payload = self.error(400, "API key not valid. Please pass a valid API key.")
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            payload["error"]["details"] = [{"@type": kind, "reason": "API_KEY_INVALID"}]
            raise Refusal(400, payload)

    def _entry(self, entry, name):
        optional = {"taskType", "title", "outputDimensionality"}
        self.require_fields(entry, {"model", "content"}, optional)
        self.require(entry["model"] == f"models/{name}", 400, "model must match")
        text = entry["content"]["parts"][0]["text"]
        self.require(isinstance(text, str) and text, 400, "content must not be empty")
        size = entry.get("outputDimensionality", self.models[name])
        if name == "gemini-embedding-001":
            return text, self.task_types[entry["taskType"]], size
        self.require("taskType" not in entry, 400, "taskType is not supported")
        prompt = next(prompt for prompt in self.prompts if text.startswith(prompt))
        return text.removeprefix(prompt), self.prompts[prompt], size

    def render(self, rows, indexes, context):
        return {
            "embeddings": [{"values": row} for row in rows],
            "usageMetadata": {"promptTokenCount": context["tokens"]},
        }

    def error(self, status, message):
        words = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
        word = words.get(status, "UNKNOWN")
        return {"error": {"code": status, "message": message, "status": word}}

    def fault_error(self, fault):
        """Google tells the pause in the body, not in a header."""
        payload, headers = super().fault_error(fault)
        if fault is Fault.THROTTLED_SECONDS:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            delay = {"@type": kind, "retryDelay": f"{self.retry_after_seconds}s"}
            payload["error"]["details"] = [delay]
            headers = {}
        return payload, headers


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
