"""A document's text, a page at a time, with where its chunks begin, end and overlap."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.db.models.functions import Substr

from media_jobs.models import MediaItem, StoredChunk

PAGE_CHARACTERS = 10_000
MAX_PAGE_CHUNKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a chunk lies in its document, in characters."""

    index: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of the text that lies in the same `chunks` throughout: none, one, or several where they overlap.

    `begins`: those of the chunks that begin with it.
    """

    text: str
    chunks: tuple[int, ...]
    begins: tuple[int, ...]

    @property
    def is_overlap(self) -> bool:
        return len(self.chunks) > 1

    @property
    def is_even(self) -> bool:
        """Whether its (first) chunk has an even number, so that neighbours look different."""
        return bool(self.chunks) and self.chunks[0] % 2 == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPage:
    """Page `number` of `pages`, from 1, and its text. `has_chunks` is False where none fit the text as it is now."""

    number: int
    pages: int
    passages: list[Passage]
    has_chunks: bool

    @property
    def previous(self) -> int | None:
        return self.number - 1 if self.number > 1 else None

    @property
    def next(self) -> int | None:
        return self.number + 1 if self.number < self.pages else None


def has_chunks(item: MediaItem) -> bool:
    """Whether the stored chunks are of the text as it is now."""
    return bool(item.embedding_count) and item.embedded_checksum == item.checksum


def text_page(item: MediaItem, *, page: int = 1, chunk: int | None = None) -> TextPage:
    """Return a page of the text: the one where `chunk` begins, else that number, or the nearest that there is."""
    if has_chunks(item):
        found = _page_of_chunks(item, page=page, chunk=chunk)
        if found is not None:
            return found
    pages = max(1, -(-item.characters // PAGE_CHARACTERS))
    number = min(max(page, 1), pages)
    text = text_between(item.pk, (number - 1) * PAGE_CHARACTERS, PAGE_CHARACTERS)
    whole = Passage(text=text, chunks=(), begins=())
    return TextPage(number=number, pages=pages, passages=[whole], has_chunks=False)


def text_between(media_id: int, start: int, length: int) -> str:
    """Return so many characters of a document's text, read alone."""
    piece = Substr("content", start + 1, length)
    found = MediaItem.objects.filter(pk=media_id).values_list(piece, flat=True)
    return found.first() or ""


def _page_of_chunks(
    item: MediaItem, *, page: int, chunk: int | None
) -> TextPage | None:
    count = item.embedding_count
    size = PAGE_CHARACTERS * count // max(1, item.characters)
    size = min(max(size, 1), MAX_PAGE_CHUNKS)
    pages = -(-count // size)
    if chunk is not None:
        page = chunk // size + 1
    number = min(max(page, 1), pages)
    first, after = (number - 1) * size, number * size
    # Those before and after: they may reach into the page, and say where it ends.
    rows = StoredChunk.objects.filter(
        media_id=item.pk, index__gte=first - 1, index__lte=after
    ).order_by("index")
    places = [
        Place(index=index, start=start, end=end)
        for index, start, end in rows.values_list("index", "start", "end")
    ]
    starts = {place.index: place.start for place in places}
    if first not in starts:
        return None  # replaced in this moment
    start = starts[first] if number > 1 else 0
    end = starts.get(after, item.characters)
    text = text_between(item.pk, start, end - start)
    passages = list(cut(text, places, offset=start))
    return TextPage(number=number, pages=pages, passages=passages, has_chunks=True)


def cut(text: str, places: Sequence[Place], *, offset: int = 0) -> Iterator[Passage]:
    """Cut `text`, which begins at `offset`, wherever one of the chunks begins or ends."""
    end = offset + len(text)
    bounds = {offset, end}
    bounds |= {at for place in places for at in (place.start, place.end)}
    inside = sorted(at for at in bounds if offset <= at <= end)
    for start, stop in itertools.pairwise(inside):
        covering = [one for one in places if one.start <= start and one.end >= stop]
        yield Passage(
            text=text[start - offset : stop - offset],
            chunks=tuple(one.index for one in covering),
            begins=tuple(one.index for one in covering if one.start == start),
        )
