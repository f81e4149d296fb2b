"""OpenTelemetry's names for what a request did: the semantic conventions of HTTP servers and of generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/ and /http/. Attributes of our own begin with `embeddings.`. None
holds a text, a vector or a key; names of models are those of the registry.
"""

from embeddings.services import request_metrics
from embeddings.services.types import Target
from embeddings.services.usage.events import Event
from providers.base import Embedded
from providers.tracing import Attributes, Step, server_of

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
DIMENSIONS = "gen_ai.embeddings.dimension.count"
ENCODING_FORMATS = "gen_ai.request.encoding_formats"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105
STATUS = "http.response.status_code"
ERROR = "error.type"
# What the metrics of requests and of calls are told apart by.
OF_HTTP = ("http.request.method", "http.route", "url.scheme", STATUS)
OF_MODELS = (OPERATION, REQUEST_MODEL, RESPONSE_MODEL)
OF_CALLS = (*OF_MODELS, PROVIDER, "server.address", "server.port")
# Plug-ins that the conventions call otherwise.
WELL_KNOWN = {"google": "gcp.gemini", "mistral": "mistral_ai"}


def of_target(target: Target) -> Attributes:
    """Return what names a provider and its model, as this server does."""
    return {
        "embeddings.provider": target.provider.name,
        "embeddings.model": request_metrics.model_label(target),
    }


def of_lookup(texts: int, misses: int) -> Attributes:
    """Return what the cache held."""
    return {"embeddings.texts": texts, "embeddings.cache_hits": texts - misses}


def describe_call(call: Step, target: Target) -> None:
    """Make a step one call of a model."""
    model = request_metrics.model_label(target)
    call.name = f"embeddings {model}"
    call.attributes |= {
        OPERATION: "embeddings",
        PROVIDER: system_of(target),
        REQUEST_MODEL: model,
        **server_of(target.provider.address()),
    }


def describe_answer(call: Step, target: Target, embedded: Embedded) -> None:
    """Add what it answered."""
    call.attributes |= {
        RESPONSE_MODEL: call.attributes[REQUEST_MODEL],
        DIMENSIONS: embedded.vectors.shape[1],
        "embeddings.texts": len(embedded.vectors),
    }
    if embedded.prompt_tokens is not None:
        call.attributes[INPUT_TOKENS] = embedded.prompt_tokens


def system_of(target: Target) -> str:
    """Return the conventions' name of a provider; of an upstream that operators added, that of its plug-in."""
    return well_known(type(target.provider).name)


def well_known(provider: str) -> str:
    """Return what the conventions call a provider."""
    return WELL_KNOWN.get(provider, provider)


def of_event(event: Event) -> Attributes:
    """Return what describes a whole request, or a job's batch: who asked whom, and what came of it."""
    found: Attributes = {"embeddings.request_id": event.request_id}
    method, _, route = event.endpoint.partition(" ")
    if route or method.isupper():  # else no request of HTTP
        found |= {"http.request.method": method, STATUS: event.status}
        found |= {"http.route": route} if route else {}
    if event.caller:
        found["embeddings.caller"] = event.caller.id
    if event.asked:
        found |= {OPERATION: "embeddings", REQUEST_MODEL: event.asked}
    if event.provider:
        found |= {
            RESPONSE_MODEL: event.model,
            "embeddings.provider": event.provider,
            "embeddings.texts": event.texts,
            "embeddings.cache_hits": event.cache_hits,
            INPUT_TOKENS: event.tokens,
        }
    return found
