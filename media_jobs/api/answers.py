"""The shapes of the answers, as OpenAPI 3.0 schemas, for /openapi.json."""

from embeddings.api.answers import (
    BOOLEAN,
    INTEGER,
    MOMENT,
    NUMBER,
    STRING,
    Schema,
    a_list,
    an_object,
    one_of,
    or_null,
)

ITEM: dict[str, Schema] = {
    "media_id": INTEGER,
    "title": STRING,
    "language": STRING,
    "source_filename": STRING,
    "metadata": {"type": "object", "additionalProperties": True},
    "checksum": STRING,
    "characters": INTEGER,
    "has_embeddings": BOOLEAN,
    "embeddings_stale": BOOLEAN,
    "warnings": a_list(STRING),
    "created_at": MOMENT,
    "updated_at": MOMENT,
}
PAGINATION = an_object(limit=INTEGER, offset=INTEGER, count=INTEGER, total=INTEGER)
MEDIA_ITEM = an_object(**ITEM)
MEDIA_ITEM_WITH_TEXT: Schema = {
    **MEDIA_ITEM,
    "properties": {**MEDIA_ITEM["properties"], "content": STRING},
}
MEDIA_LIST = an_object(data=a_list(MEDIA_ITEM), pagination=PAGINATION)
MEDIA_DELETED = an_object(media_id=INTEGER, status=one_of("deleted"))
JOB_WORD = one_of("queued", "processing", "completed", "failed", "cancelled")
JOB_STARTED = an_object(
    media_id=INTEGER,
    status=one_of("accepted", "queued", "processing", "completed"),
    message=STRING,
    job_id=STRING,
)
JOBS_STARTED = an_object(jobs=a_list(JOB_STARTED), count=INTEGER)
JOB = an_object(
    job_id=STRING,
    media_id=INTEGER,
    status=JOB_WORD,
    embedding_model=STRING,
    embedding_provider=STRING,
    dimensions=or_null(INTEGER),
    chunk_size=INTEGER,
    chunk_overlap=INTEGER,
    priority=INTEGER,
    chunks_total=or_null(INTEGER),
    chunks_processed=INTEGER,
    progress=NUMBER,
    attempts=INTEGER,
    error=or_null(STRING),
    waiting_until=or_null(MOMENT),
    waiting_reason=or_null(STRING),
    webhook=or_null(
        an_object(
            status=one_of("waiting", "pending", "delivered", "failed"),
            attempts=INTEGER,
            next_attempt_at=or_null(MOMENT),
            error=or_null(STRING),
        )
    ),
    created_at=MOMENT,
    started_at=or_null(MOMENT),
    finished_at=or_null(MOMENT),
)
JOB_LIST = an_object(data=a_list(JOB), pagination=PAGINATION)
EMBEDDINGS_DELETED = an_object(
    media_id=INTEGER, status=one_of("deleted"), deleted_count=INTEGER
)
EMBEDDINGS_STATUS = an_object(
    media_id=INTEGER,
    has_embeddings=BOOLEAN,
    embeddings_stale=BOOLEAN,
    embedding_count=INTEGER,
    embedding_model=or_null(STRING),
    embedding_provider=or_null(STRING),
    vector_space=or_null(STRING),
    dimensions=or_null(INTEGER),
    last_generated=or_null(MOMENT),
    current_job=or_null(JOB),
)
AMOUNT = an_object(used=INTEGER, limit=or_null(INTEGER))
QUOTA = an_object(documents=AMOUNT, stored_bytes=AMOUNT, queued_jobs=AMOUNT)
SEARCH_RESULTS = an_object(
    results=a_list(
        an_object(
            media_id=INTEGER,
            title=STRING,
            chunk_index=INTEGER,
            text=STRING,
            start=INTEGER,
            end=INTEGER,
            score=NUMBER,
            metadata={"type": "object", "additionalProperties": True},
        )
    ),
    count=INTEGER,
)
