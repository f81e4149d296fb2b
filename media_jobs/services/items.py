"""Documents: made, listed, changed, deleted. A caller's own are its to do with as it likes; those of others take
Django's permissions, as in the console."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from embeddings.services.callers import Caller, refusal
from embeddings.services.errors import NotAllowed, NotFound
from media_jobs.models import MediaItem
from media_jobs.services.quotas import check_store
from media_jobs.text import checked, checksum

VIEW, CHANGE, DELETE = (
    f"media_jobs.{act}_mediaitem" for act in ("view", "change", "delete")
)

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


def sees_all_items(caller: Caller) -> bool:
    return caller.may(VIEW, CHANGE)


def visible_items(caller: Caller) -> QuerySet[MediaItem]:
    """Return the documents that `caller` may know of, without their texts."""
    items = MediaItem.objects.defer("content")
    if sees_all_items(caller):
        return items
    if caller.user_id is None:
        return items.none()
    return items.filter(owner_id=caller.user_id)


def find_item(
    caller: Caller, media_id: int, *, permission: str | None = None
) -> MediaItem:
    """Return one document; another's for an act takes the `permission` for it, too. Raises NotFound for what is not
    there and for what the caller may not see, alike, and NotAllowed.
    """
    item = visible_items(caller).filter(pk=media_id).first()
    if item is None:
        raise NotFound("There is no such media item.")
    if permission is not None:
        check_permission(caller, item.owner_id, permission)
    return item


def check_permission(caller: Caller, owner_id: int | None, permission: str) -> None:
    """Raise NotAllowed unless what belongs to `owner_id` is the caller's own, or it has the permission."""
    is_own = owner_id is not None and owner_id == caller.user_id
    if not is_own and not caller.may(permission):
        raise NotAllowed(refusal(permission))


def create_item(caller: Caller, new: NewItem) -> MediaItem:
    """Store a document.

    Raises InvalidRequest for one without text, QuotaExceeded, NotAllowed where its owner is gone.
    """
    content = checked(new.content, param="content")
    size = len(content.encode())
    check_store(caller, more_bytes=size)
    try:
        item = MediaItem.objects.create(
            owner_id=caller.user_id,
            title=new.title,
            content=content,
            checksum=checksum(content),
            characters=len(content),
            text_bytes=size,
            metadata=dict(new.metadata),
            language=new.language,
            source_filename=new.source_filename,
            warnings=list(new.warnings),
        )
    except IntegrityError as error:
        raise NotAllowed("This user has just been deleted.") from error
    log.info("media_created", media_id=item.pk, characters=item.characters)
    return item


def change_item(caller: Caller, media_id: int, changes: Mapping[str, Any]) -> MediaItem:
    """Change fields of a document. Another text leaves its vectors in place, and stale, and no warnings of the old.

    Raises QuotaExceeded.
    """
    with transaction.atomic():
        item = find_item(caller, media_id, permission=CHANGE)
        fields = dict(changes)
        if "content" in fields:
            content = checked(fields["content"], param="content")
            size = len(content.encode())
            check_store(caller, new_documents=0, more_bytes=size - item.text_bytes)
            fields |= {
                "checksum": checksum(content),
                "characters": len(content),
                "text_bytes": size,
            }
            fields.setdefault("warnings", [])
        for name, value in fields.items():
            setattr(item, name, value)
        item.save(update_fields=[*fields, "updated_at"])
    return item
