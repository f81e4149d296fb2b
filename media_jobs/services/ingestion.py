"""Files to documents: one that somebody sent; or a folder, of which what is new is stored, what changed is changed, and
what is the same is left alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO
from unicodedata import normalize

from embeddings.services.callers import Caller
from embeddings.services.errors import InvalidRequest, ServiceError
from media_jobs.extraction.extract import extracted
from media_jobs.extraction.file_formats import format_of
from media_jobs.models import MediaItem
from media_jobs.services.items import NewItem, change_item, create_item, visible_items
from media_jobs.text import checksum

# A folder waits for its turn behind the files that clients send.
PATIENCE_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of one file: the document, or the reason why there is none."""

    path: Path
    item: MediaItem | None
    problem: str = ""


def read_upload(
    file: BinaryIO, *, name: str, charset: str = "", title: str = "", **fields: Any
) -> NewItem:
    """Return the document that a file is to be, called as the file where no title is given. `fields`: of NewItem.

    Raises what `extracted` raises, and InvalidRequest where there is no title.
    """
    name = normalize("NFC", PurePath(name).name)
    read = extracted(file, filename=name, charset=charset)
    title = title or PurePath(name).stem
    if not title:
        raise InvalidRequest("title must be given, since the file has no name.")
    return NewItem(
        title=title[:500],
        content=read.text,
        source_filename=name[:255],
        warnings=read.warnings,
        **fields,
    )


def files_in(folder: Path) -> list[Path]:
    """Return the files below `folder` in formats that are understood; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in found
        if format_of(path.name)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def take_files(caller: Caller, paths: list[Path], *, root: Path) -> Iterator[Taken]:
    """Store each file under its path below `root`, which is also how it is known again."""
    for path in paths:
        try:
            yield Taken(path=path, item=_take(caller, path, root))
        except (ServiceError, OSError) as error:
            yield Taken(path=path, item=None, problem=str(error))


def _take(caller: Caller, path: Path, root: Path) -> MediaItem:
    given = path.relative_to(root).as_posix()
    place = normalize("NFC", given)
    known_as = [place, normalize("NFD", given), given]
    with path.open("rb") as file:
        read = extracted(file, filename=path.name, patience=PATIENCE_SECONDS)
    known = visible_items(caller).filter(metadata__path__in=known_as).first()
    if known is None:
        return create_item(
            caller,
            NewItem(
                title=place[-500:],
                content=read.text,
                metadata={"path": place},
                source_filename=normalize("NFC", path.name)[-255:],
                warnings=read.warnings,
            ),
        )
    if known.checksum == checksum(read.text):
        return known
    changes = {"content": read.text, "warnings": list(read.warnings)}
    return change_item(caller, known.pk, changes)
