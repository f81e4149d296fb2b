"""The shapes of the answers, as OpenAPI 3.0 schemas, for /openapi.json."""

from embeddings.api.answers import (
    BOOLEAN,
    INTEGER,
    MOMENT,
    STRING,
    Schema,
    a_list,
    an_object,
    one_of,
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
