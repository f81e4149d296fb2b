"""Google, as strict as the real service and with its error bodies."""

import re

from providers.plugins.google import GoogleProvider
from tests.upstreams.case import ProviderCase
from tests.upstreams.faults import Fault
from tests.upstreams.server import Refusal, StubUpstream
from tests.upstreams.vectors import tokens_in


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


CASES = (
    ProviderCase(
        id="google",
        provider=GoogleProvider,
        upstream=GoogleUpstream,
        model="gemini-embedding-001",
        dimensions=3072,
        smaller=("gemini-embedding-2", 768),
        input_types=True,
        max_items=100,
    ),
)
