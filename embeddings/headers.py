"""The headers of answers: their names for whoever sets one, and what /openapi.json says of each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from embeddings.conf import DimensionsPolicy

if TYPE_CHECKING:  # the settings read the names here, and load no numpy
    from embeddings.services.types import EmbeddingResult

RETRY_AFTER = "Retry-After"
REQUEST_ID = "X-Request-ID"
SHOULD_RETRY = "x-should-retry"
CHALLENGE = "WWW-Authenticate"
CACHE_CONTROL = "Cache-Control"
POLICY = "X-Embeddings-Dimensions-Policy"
DRIFT = "X-Embeddings-Drift"
FALLBACK_FROM = "X-Embeddings-Fallback-From"
MEMBER = "X-Embeddings-Pool-Member"
PRECISION = "X-Embeddings-Precision"
PROVIDER = "X-Embeddings-Provider"
TRUNCATED = "X-Embeddings-Truncated"
VECTOR_SPACE = "X-Embeddings-Vector-Space"
OF_EMBEDDINGS = (
    *(POLICY, DRIFT, FALLBACK_FROM, MEMBER, PRECISION, PROVIDER, TRUNCATED),
    VECTOR_SPACE,
)
# By kind: the limit, what is left of it, and when all of it will be there again.
RATE_LIMITS = {
    kind: tuple(
        f"x-ratelimit-{word}-{kind}" for word in ("limit", "remaining", "reset")
    )
    for kind in ("requests", "tokens")
}


def _header(description: str, *words: str, type: str = "string", **more: Any) -> Any:
    enum = {"enum": list(words)} if words else {}
    return {"description": description, "schema": {"type": type, **enum}, **more}


def _rate_limits(kind: str) -> dict[str, Any]:
    limit, remaining, reset = RATE_LIMITS[kind]
    return {
        limit: _header(f"How many {kind} may come at once.", type="integer"),
        remaining: _header(f"How many {kind} may come now.", type="integer"),
        reset: _header(f"When all {kind} may come again, such as `8.64s` or `6m0s`."),
    }


DESCRIBED: Mapping[str, Any] = {
    RETRY_AFTER: _header("Seconds after which to try again.", type="integer"),
    REQUEST_ID: _header(
        "The request's own, or one made for it; the log has it, too.", required=True
    ),
    SHOULD_RETRY: _header("To try again at once does not help.", "false"),
    CHALLENGE: _header("How to send the key or token.", required=True),
    CACHE_CONTROL: _header("The answer is a secret.", "no-store", required=True),
    POLICY: _header(
        "How vectors of another size were brought to `dimensions`.",
        *get_args(DimensionsPolicy),
    ),
    DRIFT: _header("The model gives other vectors than it did.", "true"),
    FALLBACK_FROM: _header("The provider that was asked for and could not serve."),
    MEMBER: _header(
        "Which upstream of the provider's pool made the vectors; absent if all were cached."
    ),
    PRECISION: _header("The arithmetic of a local model.", "exact", "fast"),
    PROVIDER: _header("Who made the vectors."),
    TRUNCATED: _header("How many texts were cut to the model's limit.", type="integer"),
    VECTOR_SPACE: _header("Only vectors of one space can be compared."),
    **_rate_limits("requests"),
    **_rate_limits("tokens"),
}


def described(*names: str) -> dict[str, Any]:
    """Return the OpenAPI header objects of `names`."""
    return {name: DESCRIBED[name] for name in names}


def embedding_headers(result: "EmbeddingResult") -> dict[str, str]:
    """Return the headers that say what this answer is."""
    headers = {
        PROVIDER: result.target.provider.name,
        VECTOR_SPACE: result.target.model.vector_space,
    }
    if result.target.model.drifted:
        headers[DRIFT] = "true"
    if result.fallback_from:
        headers[FALLBACK_FROM] = result.fallback_from
    if result.member:
        headers[MEMBER] = result.member
    if result.dimensions_policy:
        headers[POLICY] = result.dimensions_policy
    if result.truncated:
        headers[TRUNCATED] = str(result.truncated)
    if precision := result.target.model.precision:
        headers[PRECISION] = precision
    return headers
