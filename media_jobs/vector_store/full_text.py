"""Chunks found by their words, ranked by the database: FTS5's BM25, or PostgreSQL's rank weighted by rarity.

Of a question only the words count: what else it holds is no query syntax."""

import itertools
import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from math import log1p
from typing import Any

from django.db import connections
from django.db.backends.utils import CursorWrapper

MAX_CHARACTERS = 4000  # of a question, read for words
MAX_WORDS = 64
# So many words in a row are no accident.
QUOTED_WORDS = 5
# Ranking costs a few microseconds a match. Words that match more than this together say little anyway.
MAX_MATCHES = 20_000

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


def words_of(text: str) -> list[str]:
    """Return the words of `text`, each once: runs of letters, marks and digits."""
    letters = "".join(
        character if _is_of_a_word(character) else " "
        for character in text[:MAX_CHARACTERS]
    )
    by_lower = {word.lower(): word for word in reversed(letters.split())}
    return list(by_lower.values())[::-1][:MAX_WORDS]


def marked(text: str, passage: str) -> list[tuple[str, bool]]:
    """Return `passage` in pieces, each with whether it is one of the words of `text`."""
    wanted = {folded(word) for word in words_of(text)}
    pieces: list[tuple[str, bool]] = []
    for is_word, run in itertools.groupby(passage, key=_is_of_a_word):
        piece = "".join(run)
        found = is_word and folded(piece) in wanted
        if pieces and not found and not pieces[-1][1]:
            pieces[-1] = (pieces[-1][0] + piece, False)
        else:
            pieces.append((piece, found))
    return pieces


def quotes(text: str, passage: str) -> bool:
    """Whether `text` is long enough to be a quotation, and `passage` holds its words one after the other."""
    wanted, held = _all_words(text), _all_words(passage)
    return (
        len(wanted) >= QUOTED_WORDS and f" {' '.join(wanted)} " in f" {' '.join(held)} "
    )


def _is_of_a_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _all_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def telling(counts: Mapping[str, int], *, max_matches: int = MAX_MATCHES) -> list[str]:
    """Return the rarest words, as many as match no more than `max_matches` chunks together."""
    chosen = []
    total = 0
    for word, count in sorted(counts.items(), key=lambda item: item[1]):
        total += count
        if total > max_matches:
            break
        chosen.append(word)
    return chosen


def rarity(count: int, total: int) -> float:
    """Return a word's weight by how many of `total` chunks hold it: BM25's inverse document frequency.

    https://en.wikipedia.org/wiki/Okapi_BM25
    """
    return log1p((max(total - count, 0) + 0.5) / (count + 0.5))


def fused(*rankings: Sequence[int], k: int = 60) -> list[tuple[int, float]]:
    """Merge rankings of ids by reciprocal rank fusion, best first; equals in the order of their ids.

    Each ranking gives 1 / (k + rank), counted from 1: Cormack, Clarke and Buettcher, SIGIR 2009,
    https://doi.org/10.1145/1571941.1572114.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, start=1):
            scores[one] = scores.get(one, 0.0) + 1 / (k + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
