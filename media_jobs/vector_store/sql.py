"""What all stores share: chunks are rows, replaced in one transaction, and a search reads one moment of them."""

import json
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from django.db import (
    DEFAULT_DB_ALIAS,
    IntegrityError,
    connections,
    models,
    transaction,
)
from django.db.models import F, Sum
from django.db.models.expressions import RawSQL

from media_jobs.vector_store.base import (
    Chunk,
    Hit,
    Space,
    StoreStats,
    Superseded,
    Vector,
    VectorStore,
    checked,
)
from media_jobs.vector_store.bulk import insert_rows
from media_jobs.vector_store.full_text import found_by_words, fused, quotes
from media_jobs.vector_store.rows import ItemVectors, StoredChunk, VectorSpace

INSERT_ROWS = 256  # 256 chunks of 20,000 characters are 5 MB
MIN_DEPTH = 50  # of the rankings by vector and by words that a hybrid search merges
QUOTING_DEPTH = 20  # of the ranking by words, in which a quotation is looked for

Found = list[tuple[int, float]]  # chunk ids with their scores, best first


class SqlVectorStore(VectorStore):
    """A store whose chunks are rows of the database `using`; where the vectors lie is for its children to say."""

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self.using = using

    def replace(
        self,
        media_id: int,
        space: Space,
        chunks: Iterable[Chunk],
        *,
        guard: Callable[[], bool] | None = None,
    ) -> int:
        row = self._space_for(space)
        try:
            with transaction.atomic(using=self.using):
                self._take(media_id, space, row)
                self._chunks().filter(media_id=media_id).delete()
                count = self._insert_all(row, ((media_id, one) for one in chunks))
                self._publish(media_id, row, count)
                if guard is not None and not guard():
                    raise Superseded("The guard of the replacement said no.")
        except IntegrityError as error:
            raise Superseded(f"Media item {media_id} is gone.") from error
        return count

    def load(self, space: Space, items: Sequence[tuple[int, Sequence[Chunk]]]) -> None:
        row = self._row_of(space)
        self._insert_all(
            row, ((media_id, chunk) for media_id, chunks in items for chunk in chunks)
        )
        # The space stays locked from here to the commit, as in `_publish`.
        spaces = self._spaces().filter(pk=row.pk)
        spaces.update(version=F("version") + 1)
        version = spaces.values_list("version", flat=True).get()
        insert_rows(
            [
                ItemVectors(
                    media_id=media_id,
                    space=row,
                    provider=space.provider,
                    model=space.model,
                    chunks=len(chunks),
                    version=version,
                )
                for media_id, chunks in items
            ],
            self.using,
        )

    def build_index(self, space: Space) -> None:
        self._space_for(space)

    def insert(self, rows: Sequence[StoredChunk], vectors: Sequence[Vector]) -> None:
        """Store rows that have their keys, as another database had them. Runs in a transaction of the caller's."""
        self._insert(rows, vectors)

    def delete(self, media_ids: Collection[int]) -> int:
        ids = one_of(media_ids, self.using)
        with transaction.atomic(using=self.using):
            self._items().filter(media_id__in=ids).delete()
            return self._chunks().filter(media_id__in=ids).delete()[0]

    def search(
        self,
        query: Vector,
        space: Space,
        *,
        top_k: int,
        media_ids: Collection[int] | None = None,
        text: str | None = None,
    ) -> list[Hit]:
        query = checked(query, space.dimensions)
        if top_k < 1 or (media_ids is not None and not media_ids):
            return []
        with snapshot(self.using):
            row = self._space_row(space)
            if row is None:
                return []
            if text is None:
                return self._hits(self._nearest(query, row, top_k, media_ids))
            depth = max(MIN_DEPTH, 2 * top_k)
            nearest = self._nearest(query, row, depth, media_ids)
            worded = found_by_words(
                self.using, text, space_id=row.pk, media_ids=media_ids, limit=depth
            )
            quoting = self._quoting(text, worded[:QUOTING_DEPTH])
            ranked = fused([chunk_id for chunk_id, _ in nearest], worded, quoting)
            return self._hits(ranked[:top_k])

    def stats(self, media_ids: Collection[int] | None = None) -> StoreStats:
        items = self._items()
        if media_ids is not None:
            items = items.filter(media_id__in=one_of(media_ids, self.using))
        groups = items.values_list(
            "provider", "model", "space__vector_space", "space__dimensions"
        ).annotate(items=models.Count("pk"), chunks=Sum("chunks"))
        found = list(groups.order_by("provider", "model", "space_id"))
        spaces = (
            Space(provider=provider, model=model, vector_space=name, dimensions=size)
            for provider, model, name, size, _, _ in found
        )
        return StoreStats(
            chunks=sum(chunks for *_, chunks in found),
            media=sum(items for *_, items, _ in found),
            spaces=tuple(spaces),
        )

    @abstractmethod
    def _nearest(
        self,
        query: Vector,
        space: VectorSpace,
        limit: int,
        media_ids: Collection[int] | None,
    ) -> Found:
        """Find the chunks nearest to `query`. Runs in a snapshot."""

    @abstractmethod
    def _insert(self, rows: Sequence[StoredChunk], vectors: Sequence[Vector]) -> None:
        """Store rows and their vectors. Runs in a transaction."""

    def _chunks(self) -> models.QuerySet[StoredChunk]:
        return StoredChunk.objects.using(self.using)

    def _items(self) -> models.QuerySet[ItemVectors]:
        return ItemVectors.objects.using(self.using)

    def _spaces(self) -> models.QuerySet[VectorSpace]:
        return VectorSpace.objects.using(self.using)

    def _items_of(
        self, space: VectorSpace, media_ids: Collection[int] | None = None
    ) -> models.QuerySet[ItemVectors]:
        items = self._items().filter(space=space)
        if media_ids is None:
            return items
        return items.filter(media_id__in=one_of(media_ids, self.using))

    def _chunk_count(
        self, space: VectorSpace, media_ids: Collection[int], *, at_most: int
    ) -> int:
        """Count the chunks of these items in the space, up to a number: each item has one at least."""
        items = self._items_of(space, media_ids)
        return min(sum(items.values_list("chunks", flat=True)[:at_most]), at_most)

    def _space_row(self, space: Space) -> VectorSpace | None:
        return (
            self._spaces()
            .filter(vector_space=space.vector_space, dimensions=space.dimensions)
            .first()
        )

    def _space_for(self, space: Space) -> VectorSpace:
        """Return the row of the space, made if it is new, with its index. Runs before the transaction of a
        replacement.
        """
        return self._row_of(space)

    def _row_of(self, space: Space) -> VectorSpace:
        return self._spaces().get_or_create(
            vector_space=space.vector_space, dimensions=space.dimensions
        )[0]

    def _take(self, media_id: int, space: Space, row: VectorSpace) -> None:
        """Lock the item against other replacements by writing its row."""
        item = ItemVectors(
            media_id=media_id, space=row, provider=space.provider, model=space.model
        )
        self._items().bulk_create(
            [item],
            update_conflicts=True,
            unique_fields=["media"],
            update_fields=["space", "provider", "model"],
        )

    def _insert_all(
        self, space: VectorSpace, chunks: Iterable[tuple[int, Chunk]]
    ) -> int:
        """Insert chunks, each with its item's id, and return their number."""
        count, left = 0, iter(chunks)
        while batch := list(islice(left, INSERT_ROWS)):
            rows = [
                StoredChunk(
                    media_id=media_id,
                    space=space,
                    index=chunk.index,
                    start=chunk.start,
                    end=chunk.end,
                    text=chunk.text,
                )
                for media_id, chunk in batch
            ]
            self._insert(
                rows, [checked(chunk.vector, space.dimensions) for _, chunk in batch]
            )
            count += len(batch)
        return count

    def _publish(self, media_id: int, space: VectorSpace, count: int) -> None:
        """Give the item the space's next version. The space stays locked from here to the commit, so that versions
        become visible in their order.
        """
        items = self._items().filter(media_id=media_id)
        if not count:
            items.delete()
            return
        spaces = self._spaces().filter(pk=space.pk)
        spaces.update(version=F("version") + 1)
        items.update(chunks=count, version=spaces.values("version"))

    def _quoting(self, text: str, chunk_ids: Sequence[int]) -> list[int]:
        """Return those of the chunks that hold `text` word for word, in their order."""
        texts = dict(self._chunks().filter(pk__in=chunk_ids).values_list("pk", "text"))
        return [one for one in chunk_ids if quotes(text, texts[one])]

    def _hits(self, found: Found) -> list[Hit]:
        chunks = (
            self._chunks().defer("vector").in_bulk([chunk_id for chunk_id, _ in found])
        )
        return [
            Hit(
                media_id=chunk.media_id,
                chunk_index=chunk.index,
                text=chunk.text,
                start=chunk.start,
                end=chunk.end,
                score=min(score, 1.0),  # rounding
            )
            for chunk_id, score in found
            for chunk in [chunks[chunk_id]]
        ]


def one_of(ids: Collection[int], using: str) -> RawSQL:
    """Return what stands behind `__in`: a subquery over one parameter.

    For sets of any size: SQLite bounds the number of parameters, PostgreSQL plans long lists slowly.
    """
    if connections[using].vendor == "postgresql":
        return RawSQL("SELECT unnest(%s::bigint[])", [[int(one) for one in ids]])
    return RawSQL(
        "SELECT value FROM json_each(%s)", [json.dumps([int(one) for one in ids])]
    )


@contextmanager
def snapshot(using: str) -> Iterator[None]:
    """Let all reads of the block see one moment. Inside a transaction of the caller's, that one's rules hold."""
    connection = connections[using]
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "postgresql":
        with transaction.atomic(using=using), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
    else:
        # Not `atomic`: its BEGIN IMMEDIATE would wait for every writer.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")  # nothing was written
