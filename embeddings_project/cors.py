"""What pages of other origins may do, where the operator names some in `CORS_ALLOWED_ORIGINS`.

Keys travel in headers and never in cookies, so credentials in the sense of CORS are not allowed.
"""

PATHS = r"^/+(api/|healthz$|readyz$|openapi\.json$)"  # never the console

# The star is for what SDKs add of their own. Browsers want Authorization named anyway, old ones the rest, too.
REQUEST_HEADERS = (
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

# What a page may read besides the body.
ANSWER_HEADERS = (
    "Retry-After",
    "X-Request-ID",
    "x-should-retry",
    "X-Embeddings-Dimensions-Policy",
    "X-Embeddings-Drift",
    "X-Embeddings-Fallback-From",
    "X-Embeddings-Precision",
    "X-Embeddings-Provider",
    "X-Embeddings-Truncated",
    "X-Embeddings-Vector-Space",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
)
