"""A document's text, a page at a time, with where its chunks begin, end and overlap."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.db.models import Q
from django.db.models.functions import Substr

from media_jobs.models import MediaItem, StoredChunk

PAGE_CHARACTERS = 10_000
STEPS_BACK = 1000  # chunks
SAMPLED = 200  # chunks that say about where others are


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
    fits = has_chunks(item)
    chunks = StoredChunk.objects.filter(media_id=item.pk).order_by("start", "index")
    if fits and chunk is not None:
        begins = chunks.filter(index=chunk).values_list("start", flat=True).first()
        page = (begins or 0) // PAGE_CHARACTERS + 1
    pages = max(1, -(-item.characters // PAGE_CHARACTERS))
    number = min(max(page, 1), pages)
    start = (number - 1) * PAGE_CHARACTERS
    text = text_between(item.pk, start, PAGE_CHARACTERS)
    places = []
    if fits:
        end = start + len(text)
        near = _near(item, start, end)
        rows = chunks.filter(near, start__lt=end, end__gt=start)
        places = [
            Place(index=index, start=begin, end=end)
            for index, begin, end in rows.values_list("index", "start", "end")
        ]
    passages = list(cut(text, places, offset=start))
    return TextPage(number=number, pages=pages, passages=passages, has_chunks=fits)


def _near(item: MediaItem, start: int, end: int) -> Q:
    """Return which numbers the chunks between two places of a text have, roughly: there is no index of places.

    Numbers follow the text, but where a model's limit cuts chunks smaller, they step back a little.
    """
    count = item.embedding_count
    if count <= 4 * STEPS_BACK:
        return Q()
    some = range(0, count, -(-count // SAMPLED))
    rows = StoredChunk.objects.filter(media_id=item.pk, index__in=some)
    places = list(rows.values_list("index", "start"))
    first = max((index for index, begin in places if begin < start), default=0)
    last = min((index for index, begin in places if begin >= end), default=count)
    return Q(index__gte=first - STEPS_BACK, index__lte=last + STEPS_BACK)


def text_between(media_id: int, start: int, length: int) -> str:
    """Return so many characters of a document's text, read alone."""
    piece = Substr("content", start + 1, length)
    found = MediaItem.objects.filter(pk=media_id).values_list(piece, flat=True)
    return found.first() or ""


def cut(text: str, places: Sequence[Place], *, offset: int = 0) -> Iterator[Passage]:
    """Cut `text`, which begins at `offset`, wherever one of the chunks begins or ends."""
    end = offset + len(text)
    bounds = {offset, end}
    bounds |= {at for place in places for at in (place.start, place.end)}
    inside = sorted(at for at in bounds if offset <= at <= end)
    left = sorted(places, key=lambda one: (one.start, one.index), reverse=True)
    covering: list[Place] = []
    for start, stop in itertools.pairwise(inside):
        while left and left[-1].start <= start:
            covering.append(left.pop())
        covering = [one for one in covering if one.end >= stop]
        yield Passage(
            text=text[start - offset : stop - offset],
            chunks=tuple(one.index for one in covering),
            begins=tuple(one.index for one in covering if one.start == start),
        )
