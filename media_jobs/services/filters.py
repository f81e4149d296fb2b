"""Which documents a search is about: by id, by their fields, by their metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from unicodedata import normalize

from django.db.models import Q, QuerySet

from embeddings.services.callers import Caller
from embeddings.services.errors import NotFound
from media_jobs.metadata import keys_of
from media_jobs.models import MediaItem
from media_jobs.services.items import sees_all_items, visible_items
from media_jobs.services.metadata_filter import MetadataHolds


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a document must be like. `metadata`: path (`author.name`) -> value, or several of which one fits."""

    title: str | None = None
    language: str | None = None
    source_filename: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


NO_FILTERS = Filters()


def chosen_ids(
    caller: Caller, *, media_ids: Sequence[int] | None, filters: Filters
) -> set[int] | None:
    """Return the documents of a search; None: all there are. Raises NotFound for an id that `caller` may not see."""
    if sees_all_items(caller) and media_ids is None and filters == NO_FILTERS:
        return None
    items = visible_items(caller)
    if media_ids is not None:
        known = set(items.filter(pk__in=media_ids).values_list("pk", flat=True))
        missing = [media_id for media_id in media_ids if media_id not in known]
        if missing:
            raise NotFound(f"There is no media item {missing[0]}.", param="media_ids")
        items = items.filter(pk__in=known)
    return set(filtered(items, filters).values_list("pk", flat=True))


def filtered(items: QuerySet[MediaItem], filters: Filters) -> QuerySet[MediaItem]:
    """Return those of `items` that are like `filters` say."""
    wanted = {
        "title__folded_contains": filters.title,
        "language__folded": filters.language,
        "source_filename__folded": filters.source_filename,
        "created_at__gte": filters.created_after,
        "created_at__lt": filters.created_before,
    }
    items = items.filter(
        **{name: value for name, value in wanted.items() if value is not None}
    )
    for path, value in filters.metadata.items():
        values = value if isinstance(value, list) else [value]
        items = items.filter(_at(path, values))
    return items


def _at(path: str, values: Sequence[Any]) -> Q:
    """Return whether one of `values` is at `path`, whichever normal form the stored keys are in."""
    forms = {path, normalize("NFC", path), normalize("NFD", path)}
    fits = Q()
    for form in sorted(forms):
        fits |= Q(MetadataHolds(keys_of(form), values))
    return fits
