"""Chunks found by their words, ranked by the database: FTS5's BM25, or PostgreSQL's rank weighted by rarity."""

import json
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

from django.db import connections
from django.db.backends.utils import CursorWrapper

from media_jobs.vector_store.words import MAX_MATCHES, rarity, telling, words_of

SQLITE_COUNT = """
SELECT asked.value, coalesce((SELECT doc FROM media_jobs_wordcount WHERE term = asked.value), 0)
FROM json_each(%s) AS asked
"""
SQLITE_FIND = """
SELECT chunk.id FROM media_jobs_chunkwords AS words
JOIN media_jobs_storedchunk AS chunk ON chunk.id = words.rowid
WHERE media_jobs_chunkwords MATCH %s AND chunk.space_id = %s{only}
ORDER BY words.rank, chunk.id LIMIT %s
"""
SQLITE_ONLY = " AND chunk.media_id IN (SELECT value FROM json_each(%s))"

POSTGRES_COUNT = """
SELECT word, (
  SELECT count(*) FROM (
    SELECT FROM media_jobs_storedchunk WHERE words @@ plainto_tsquery('simple', word) LIMIT %s
  ) AS found
) FROM unnest(%s::text[]) AS word
"""
POSTGRES_TOTAL = (
    "SELECT coalesce(sum(chunks), 0) FROM media_jobs_itemvectors WHERE space_id = %s"
)
POSTGRES_FIND = """
SELECT id FROM media_jobs_storedchunk
WHERE words @@ {any} AND space_id = %s{only}
ORDER BY {rank} DESC, id LIMIT %s
"""
POSTGRES_ONLY = " AND media_id = ANY(%s)"
QUERY = "plainto_tsquery('simple', %s)"


def found_by_words(
    using: str,
    text: str,
    *,
    space_id: int,
    media_ids: Collection[int] | None,
    limit: int,
) -> list[int]:
    """Return the ids of the chunks that hold words of `text`, best first. Runs in a snapshot."""
    words = words_of(text)
    if not words:
        return []
    connection = connections[using]
    find = _in_postgres if connection.vendor == "postgresql" else _in_sqlite
    with connection.cursor() as cursor:
        return find(cursor, words, space_id, media_ids, limit)


def _in_sqlite(
    cursor: CursorWrapper,
    words: Sequence[str],
    space_id: int,
    media_ids: Collection[int] | None,
    limit: int,
) -> list[int]:
    terms = {word: folded(word) for word in words}
    cursor.execute(SQLITE_COUNT, [json.dumps(list(terms.values()))])
    counts = dict(cursor.fetchall())
    chosen = telling({word: counts[term] for word, term in terms.items()})
    if not chosen:
        return []
    values: list[Any] = [" OR ".join(f'"{word}"' for word in chosen), space_id]
    if media_ids is not None:
        values.append(json.dumps([int(media_id) for media_id in media_ids]))
    only = "" if media_ids is None else SQLITE_ONLY
    cursor.execute(SQLITE_FIND.format(only=only), [*values, limit])
    return [row[0] for row in cursor.fetchall()]


def _in_postgres(
    cursor: CursorWrapper,
    words: Sequence[str],
    space_id: int,
    media_ids: Collection[int] | None,
    limit: int,
) -> list[int]:
    cursor.execute(POSTGRES_COUNT, [MAX_MATCHES + 1, list(words)])
    counts = {word: count for word, count in cursor.fetchall() if count}
    chosen = telling(counts)
    if not chosen:
        return []
    cursor.execute(POSTGRES_TOTAL, [space_id])
    total = int(cursor.fetchone()[0])
    values: list[Any] = [*chosen, space_id]
    if media_ids is not None:
        values.append([int(media_id) for media_id in media_ids])
    for word in chosen:
        values += [rarity(counts[word], total), word]
    sql = POSTGRES_FIND.format(
        any="(" + " || ".join([QUERY] * len(chosen)) + ")",
        only="" if media_ids is None else POSTGRES_ONLY,
        rank=" + ".join([f"%s * ts_rank(words, {QUERY}, 1)"] * len(chosen)),
    )
    cursor.execute(sql, [*values, limit])
    return [row[0] for row in cursor.fetchall()]


def folded(word: str) -> str:
    """Return a word as FTS5's tokenizer keeps it, as nearly as matters for counting: small, without diacritics."""
    parts = unicodedata.normalize("NFD", word.casefold())
    return "".join(part for part in parts if unicodedata.category(part) != "Mn")
