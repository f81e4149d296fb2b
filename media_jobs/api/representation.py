"""How documents and jobs look on the wire."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from embeddings.api.operations import timestamp
from media_jobs.models import MediaItem

Row = TypeVar("Row", bound=Model)


def item_report(item: MediaItem) -> dict[str, Any]:
    """Return a document without its text."""
    return {
        "media_id": item.pk,
        "title": item.title,
        "language": item.language,
        "source_filename": item.source_filename,
        "metadata": item.metadata,
        "checksum": item.checksum,
        "characters": item.characters,
        "has_embeddings": bool(item.embedding_count),
        "embeddings_stale": item.is_stale,
        "created_at": timestamp(item.created_at),
        "updated_at": timestamp(item.updated_at),
    }


def page_of(
    rows: QuerySet[Row], report: Callable[[Row], Any], *, limit: int, offset: int
) -> dict[str, Any]:
    """Return one page of `rows`, and how many there are in all."""
    data = [report(row) for row in rows[offset : offset + limit]]
    return {
        "data": data,
        "pagination": {
            "limit": limit,
            "offset": offset,
            "count": len(data),
            "total": rows.count(),
        },
    }
