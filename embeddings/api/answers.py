"""The shapes of the answers, as OpenAPI 3.0 schemas, for /openapi.json."""

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}


def a_list(items: Schema) -> Schema:
    """Return the schema of a list of `items`."""
    return {"type": "array", "items": items}


def an_object(**properties: Schema) -> Schema:
    """Return the schema of an object that always has all of `properties`."""
    return {"type": "object", "required": list(properties), "properties": properties}


def may_have(schema: Schema, **properties: Schema) -> Schema:
    """Return the schema of an object that has some of `properties` as well."""
    return {**schema, "properties": {**schema["properties"], **properties}}


def or_null(schema: Schema) -> Schema:
    """Return `schema`, null allowed."""
    return {**schema, "nullable": True}


def one_of(*words: str) -> Schema:
    """Return the schema of a string that is one of `words`."""
    return {"type": "string", "enum": list(words)}


VECTOR = a_list({"type": "number", "format": "float"})
BASE64 = {
    "type": "string",
    "format": "byte",
    "description": "little-endian float32, base64",
}

EMBEDDING_LIST = an_object(
    object=one_of("list"),
    data=a_list(
        an_object(
            object=one_of("embedding"),
            index=INTEGER,
            embedding={"oneOf": [VECTOR, BASE64]},
        )
    ),
    model=STRING,
    usage=an_object(prompt_tokens=INTEGER, total_tokens=INTEGER),
)
EMBEDDING_BATCH = an_object(
    embeddings=a_list(VECTOR), model=STRING, provider=STRING, count=INTEGER
)
MODEL_LIST = an_object(
    data=a_list(
        an_object(provider=STRING, model=STRING, allowed=BOOLEAN, default=BOOLEAN)
    ),
    allowed_providers=or_null(a_list(STRING)),
    allowed_models=or_null(a_list(STRING)),
)
MODEL_STATE = an_object(
    provider=STRING,
    model=STRING,
    dimensions=or_null(INTEGER),
    max_tokens=or_null(INTEGER),
    allowed=BOOLEAN,
    default=BOOLEAN,
    loaded=or_null(BOOLEAN),
    downloaded=or_null(BOOLEAN),
    vector_space=STRING,
    native_dimensions={
        "nullable": True,
        "oneOf": [a_list(INTEGER), an_object(minimum=INTEGER, maximum=INTEGER)],
    },
    runtime=or_null(STRING),
    device=or_null(STRING),
    verified=or_null(one_of("reference", "self")),
    precision=or_null(one_of("exact", "fast")),
    method=or_null(STRING),
    prompts=an_object(query=STRING, document=STRING),
    drifted=BOOLEAN,
    problem=or_null(STRING),
)
WARMED_MODEL = an_object(
    status=one_of("ok"), provider=STRING, model=STRING, warmed=BOOLEAN, seconds=NUMBER
)
DOWNLOADED_MODEL = an_object(
    status=one_of("ok"),
    provider=STRING,
    model=STRING,
    downloaded=BOOLEAN,
    path=STRING,
    bytes=INTEGER,
)
OPENAI_MODEL = an_object(
    id=STRING, object=one_of("model"), created=INTEGER, owned_by=STRING
)
OPENAI_MODEL_LIST = an_object(object=one_of("list"), data=a_list(OPENAI_MODEL))
MOMENT = {"type": "string", "format": "date-time"}
CACHE_STATS = an_object(
    size=INTEGER,
    max_size=INTEGER,
    ttl_seconds=INTEGER,
    hits=INTEGER,
    misses=INTEGER,
    hit_rate=NUMBER,
)
BREAKER_WORD = one_of("closed", "open", "half_open")
BREAKER_SUMMARY = {
    "type": "object",
    "additionalProperties": an_object(state=BREAKER_WORD, failure_count=INTEGER),
}
WHAT_FAILS = {"problem": STRING, "degraded": a_list(STRING)}
HEALTH = may_have(
    an_object(
        status=one_of("healthy", "degraded"),
        service=STRING,
        timestamp=MOMENT,
        cache_stats=CACHE_STATS,
        active_requests=INTEGER,
        circuit_breakers=BREAKER_SUMMARY,
    ),
    **WHAT_FAILS,
)
BREAKER: dict[str, Schema] = {
    "provider": STRING,
    "state": BREAKER_WORD,
    "failure_count": INTEGER,
    "success_count": INTEGER,
    "opened_at": or_null(MOMENT),
    "retry_at": or_null(MOMENT),
    "last_error": or_null(STRING),
}
CIRCUIT_BREAKERS = an_object(data=a_list(an_object(**BREAKER)))
BREAKER_RESET = an_object(status=one_of("ok"), **BREAKER)
PROVIDERS_CONFIG = an_object(
    default_provider=STRING,
    default_model=STRING,
    fallback=one_of("any", "same_space", "off"),
    fallback_chain={"type": "object", "additionalProperties": a_list(STRING)},
    providers=a_list(
        an_object(
            name=STRING,
            local=BOOLEAN,
            allowed=BOOLEAN,
            configured=BOOLEAN,
            problem=or_null(STRING),
            models=a_list(
                an_object(
                    model=STRING, allowed=BOOLEAN, default=BOOLEAN, drifted=BOOLEAN
                )
            ),
        )
    ),
)
METRICS = an_object(
    cache=CACHE_STATS,
    active_requests=INTEGER,
    circuit_breakers=BREAKER_SUMMARY,
    drift=a_list(
        an_object(
            provider=STRING,
            model=STRING,
            host=STRING,
            state=one_of("ok", "drifted"),
            cosine=or_null(NUMBER),
            checked_at=or_null(MOMENT),
            revision=INTEGER,
        )
    ),
    counters={
        "type": "object",
        "additionalProperties": a_list({"type": "object"}),
    },
    latency=a_list(
        an_object(
            provider=STRING,
            model=STRING,
            count=INTEGER,
            mean_seconds=NUMBER,
            p50=NUMBER,
            p90=NUMBER,
            p95=NUMBER,
            p99=NUMBER,
        )
    ),
    config={"type": "object"},
)
TOKENS = an_object(access=STRING, refresh=STRING)
ACCESS_TOKEN = an_object(access=STRING)
KEY: dict[str, Schema] = {
    "id": INTEGER,
    "name": STRING,
    "prefix": STRING,
    "user": STRING,
    "status": one_of("active", "revoked", "expired"),
    "created_at": MOMENT,
    "last_used_at": or_null(MOMENT),
    "expires_at": or_null(MOMENT),
    "revoked_at": or_null(MOMENT),
    "allowed_providers": a_list(STRING),
    "allowed_models": a_list(STRING),
    "read_only_media": BOOLEAN,
    "limits": an_object(
        requests_per_minute=or_null(INTEGER),
        burst=or_null(INTEGER),
        tokens_per_minute=or_null(INTEGER),
        monthly_tokens=or_null(INTEGER),
        monthly_cost_usd=or_null(NUMBER),
    ),
}
API_KEY = an_object(**KEY)
API_KEY_LIST = an_object(data=a_list(API_KEY))
NEW_API_KEY = an_object(**KEY, key=STRING)
USAGE_FIGURES: dict[str, Schema] = {
    "requests": INTEGER,
    "errors": INTEGER,
    "tokens": INTEGER,
    "cache_hits": INTEGER,
    "cost_usd": NUMBER,
}
USAGE_ROW = an_object(**USAGE_FIGURES)
# Which of these a row has says `group_by`.
USAGE_ROW["properties"] = {
    "hour": MOMENT,
    "day": {"type": "string", "format": "date"},
    "provider": STRING,
    "model": STRING,
    "caller": STRING,
    "username": STRING,
    "key_id": or_null(INTEGER),
    **USAGE_FIGURES,
}
USAGE = an_object(
    object=one_of("list"),
    **{"from": MOMENT, "to": MOMENT},
    group_by=one_of("hour", "day", "model", "caller"),
    data=a_list(USAGE_ROW),
    total=an_object(**USAGE_FIGURES),
)
LIVENESS = an_object(status=one_of("ok"))
READINESS = may_have(an_object(status=one_of("ready", "not ready")), **WHAT_FAILS)
CACHE_CLEARED = an_object(status=one_of("ok"), cleared=INTEGER)
ERROR = an_object(
    detail=STRING,
    error=an_object(
        message=STRING, type=STRING, param=or_null(STRING), code=or_null(STRING)
    ),
)
INPUT_TOO_LONG = an_object(
    error=one_of("input_too_long"),
    message=STRING,
    details=a_list(an_object(index=INTEGER, tokens=INTEGER)),
)
