"""Google's Gemini API.

Wire: https://ai.google.dev/api/embeddings (at most 100 texts per call)
Models and task types: https://ai.google.dev/gemini-api/docs/embeddings
Retired ones: https://ai.google.dev/gemini-api/docs/deprecations
"""

import math
from collections.abc import Mapping

from providers.base import ModelSpec
from providers.exceptions import ProviderDenied, ProviderError
from providers.remote import (
    Answer,
    Batch,
    Call,
    Json,
    Limits,
    RemoteProvider,
    Reply,
    field,
    whole_number,
)

_TASK_TYPES = {"query": "RETRIEVAL_QUERY", "document": "RETRIEVAL_DOCUMENT"}
# gemini-embedding-2 takes no task type; its documentation puts the task into the text.
_PROMPTS = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
}
_PROMPTED = frozenset({"gemini-embedding-2"})


class GoogleProvider(RemoteProvider):
    """`POST {base}/v1beta/models/{model}:batchEmbedContents`, key in a header."""

    name = "google"
    order = 7
    fallback = ("huggingface", "onnx", "local_api")
    key_variable = "GOOGLE_API_KEY"
    other_key_variables = ("GEMINI_API_KEY",)
    url_variable = "GOOGLE_BASE_URL"
    default_base_url = "https://generativelanguage.googleapis.com"
    largest_batch = 100
    limits = Limits(max_items=largest_batch)
    listed = (
        ModelSpec(
            name="gemini-embedding-2",
            dimensions=3072,
            max_tokens=8192,
            vector_space="google/gemini-embedding-2",
            native_dimensions=range(128, 3072 + 1),
            aliases=("models/gemini-embedding-2",),
            price_per_million_tokens=0.20,
        ),
        ModelSpec(
            name="gemini-embedding-001",
            dimensions=3072,
            max_tokens=2048,
            vector_space="google/gemini-embedding-001",
            native_dimensions=range(128, 3072 + 1),
            aliases=("models/gemini-embedding-001",),
            price_per_million_tokens=0.15,
        ),
        ModelSpec(
            name="text-embedding-004",
            dimensions=768,
            max_tokens=2048,
            vector_space="google/text-embedding-004",
            native_dimensions=range(1, 768 + 1),
            aliases=("models/text-embedding-004",),
            retired=True,
        ),
    )

    def build(self, batch: Batch) -> Call:
        model = f"models/{batch.model.name}"
        entries = [_entry(model, text, batch) for text in batch.texts]
        path = f"/v1beta/{model}:batchEmbedContents"
        return Call(path=path, body={"requests": entries})

    def read(self, reply: Reply) -> Answer:
        items = field(reply.payload, "embeddings", kind=list)
        usage = reply.payload.get("usageMetadata")
        tokens = usage.get("promptTokenCount") if isinstance(usage, dict) else None
        return Answer(
            rows=[field(item, "values") for item in items],
            prompt_tokens=whole_number(tokens),
        )

    def headers(self) -> Mapping[str, str]:
        return {"x-goog-api-key": self.api_key}

    def classify(self, reply: Reply) -> type[ProviderError]:
        """A bad key is a 400 here. Only its reason differs from a bad request's."""
        reasons = [detail.get("reason") for detail in _details(reply.payload)]
        if reply.status == 400 and "API_KEY_INVALID" in reasons:
            return ProviderDenied
        return super().classify(reply)

    def retry_delay_seconds(self, reply: Reply) -> float | None:
        """Read `google.rpc.RetryInfo.retryDelay` ("39s"), else `Retry-After`.

        https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
        """
        delays = [detail.get("retryDelay") for detail in _details(reply.payload)]
        for delay in delays:
            seconds = _seconds(delay)
            if seconds is not None:
                return seconds
        return super().retry_delay_seconds(reply)


def _entry(model: str, text: str, batch: Batch) -> dict[str, Json]:
    entry: dict[str, Json] = {"model": model}
    if batch.model.name in _PROMPTED:
        text = _PROMPTS[batch.input_type] + text
    else:
        entry["taskType"] = _TASK_TYPES[batch.input_type]
    entry["content"] = {"parts": [{"text": text}]}
    if batch.dimensions is not None:
        entry["outputDimensionality"] = batch.dimensions
    return entry


def _details(payload: Json) -> list[dict[str, Json]]:
    error = payload.get("error") if isinstance(payload, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    if not isinstance(details, list):
        return []
    return [detail for detail in details if isinstance(detail, dict)]


def _seconds(delay: Json) -> float | None:
    if not isinstance(delay, str) or not delay.endswith("s"):
        return None
    try:
        seconds = float(delay[:-1])
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
