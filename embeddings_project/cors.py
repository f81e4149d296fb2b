"""What pages of other origins may do, where the operator names some in `CORS_ALLOWED_ORIGINS`.

Keys travel in headers and never in cookies, so credentials in the sense of CORS are not allowed.
"""

from embeddings.headers import CACHE_CONTROL, CHALLENGE, DESCRIBED

PATHS = r"^/+(api/|healthz$|readyz$|openapi\.json$)"  # never the console

# The star is for what SDKs add of their own. Browsers want Authorization named anyway, old ones the rest, too.
REQUEST_HEADERS: tuple[str, ...] = (
    "*",
    "authorization",
    "content-encoding",
    "content-type",
    "x-api-key",
    "x-embeddings-fallback",
    "x-embeddings-input-type",
    "x-embeddings-token-encoding",
    "x-embeddings-truncate",
    "x-provider",
    "x-request-id",
)

# What a page may read besides the body. Browsers show it Cache-Control anyway.
ANSWER_HEADERS: tuple[str, ...] = tuple(
    name for name in DESCRIBED if name not in (CACHE_CONTROL, CHALLENGE)
)
