"""Documents: made, listed, changed, deleted. A caller sees its own; admins see all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import transaction
from django.db.models import QuerySet

from embeddings.services.callers import Caller
from embeddings.services.errors import NotFound
from media_jobs.models import MediaItem
from media_jobs.text import checked, checksum

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """A document to be."""

    title: str
    content: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""
    source_filename: str = ""
    warnings: Sequence[str] = ()


def visible_items(caller: Caller) -> QuerySet[MediaItem]:
    """Return the documents that `caller` may know of, without their texts."""
    items = MediaItem.objects.defer("content")
    if caller.is_admin:
        return items
    if caller.user_id is None:
        return items.none()
    return items.filter(owner_id=caller.user_id)


def find_item(caller: Caller, media_id: int) -> MediaItem:
    """Return one document. Raises NotFound for what is not there and for what is another's, alike."""
    item = visible_items(caller).filter(pk=media_id).first()
    if item is None:
        raise NotFound("There is no such media item.")
    return item


def create_item(caller: Caller, new: NewItem) -> MediaItem:
    """Store a document. Raises InvalidRequest for one without text."""
    content = checked(new.content, param="content")
    item = MediaItem.objects.create(
        owner_id=caller.user_id,
        title=new.title,
        content=content,
        checksum=checksum(content),
        characters=len(content),
        metadata=dict(new.metadata),
        language=new.language,
        source_filename=new.source_filename,
        warnings=list(new.warnings),
    )
    log.info("media_created", media_id=item.pk, characters=item.characters)
    return item


def change_item(caller: Caller, media_id: int, changes: Mapping[str, Any]) -> MediaItem:
    """Change fields of a document. Another text leaves its vectors in place, and stale, and no warnings of the old."""
    with transaction.atomic():
        item = find_item(caller, media_id)
        fields = dict(changes)
        if "content" in fields:
            content = checked(fields["content"], param="content")
            fields |= {"checksum": checksum(content), "characters": len(content)}
            fields.setdefault("warnings", [])
        for name, value in fields.items():
            setattr(item, name, value)
        item.save(update_fields=[*fields, "updated_at"])
    return item
