"""A row of a corpus to a document: the same bounds as the API's, and for each bad row a sentence that says why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unicodedata import normalize

import orjson

from embeddings.services.errors import InvalidRequest
from media_jobs.conf import conf
from media_jobs.metadata import MAX_BYTES, problem_in
from media_jobs.text import checked

MAX_ID, MAX_TITLE, MAX_LANGUAGE = 500, 500, 35


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document. `id`: its owner's own name for it."""

    id: str
    text: str
    title: str
    language: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Under which names a row holds what. `metadata`: those that are kept beside the field `metadata`."""

    id: str = "id"
    text: str = "text"
    title: str = "title"
    language: str = "language"
    metadata: Sequence[str] = field(default_factory=tuple)

    @property
    def names(self) -> tuple[str, ...]:
        """All that are read."""
        named = (self.id, self.text, self.title, self.language, "metadata")
        return tuple(dict.fromkeys((*named, *self.metadata)))

    def document(self, row: Any) -> Document:
        """Return the document of a row. Raises BadRow."""
        if not isinstance(row, dict):
            raise BadRow("is not a JSON object.")
        name = _id(row.get(self.id), self.id)
        return Document(
            id=name,
            text=_text(row.get(self.text), self.text),
            title=_short(row.get(self.title), self.title, MAX_TITLE) or name,
            language=_short(row.get(self.language), self.language, MAX_LANGUAGE),
            metadata=self._metadata(row),
        )

    def _metadata(self, row: Mapping[str, Any]) -> dict[str, Any]:
        given = row.get("metadata")
        if isinstance(given, str):  # as a column of Parquet holds it
            given = _json(given)
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise BadRow("metadata must be a JSON object.")
        beside = {
            name: row[name] for name in self.metadata if row.get(name) is not None
        }
        if twice := given.keys() & beside.keys():
            raise BadRow(
                f"metadata has {min(twice)}, and so has the row; rename one of them."
            )
        together = {**given, **beside}
        return _plain(together) if together else {}


class BadRow(Exception):
    """A row that is no document; the sentence goes behind its place."""


def _id(value: Any, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadRow(f"{name} must be a string or a whole number.")
    if not value.strip() or "\0" in value:
        raise BadRow(f"{name} must not be blank.")
    if len(value) > MAX_ID:
        raise BadRow(f"{name} must have at most {MAX_ID} characters.")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{name} must be a string.")
    try:
        checked(value, param=name)
    except InvalidRequest as error:
        raise BadRow(error.message) from error
    if len(value.encode()) > conf().max_bytes:
        raise BadRow(
            f"{name} is larger than MEDIA_MAX_BYTES ({conf().max_bytes}) allows."
        )
    return value


def _short(value: Any, name: str, length: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise BadRow(f"{name} must be a string without NUL characters.")
    text: str = normalize("NFC", value)
    if len(text) > length:
        raise BadRow(f"{name} must have at most {length} characters.")
    return text


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRow(f"metadata is not valid JSON: {error}.") from error


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as JSON has it: a moment of Parquet is text there. Raises BadRow."""
    if problem := problem_in(metadata):
        raise BadRow(f"metadata {problem}")
    try:
        plain = orjson.dumps(metadata)
    except orjson.JSONEncodeError as error:
        raise BadRow(f"metadata cannot be written as JSON: {error}.") from error
    if len(plain) > MAX_BYTES:
        raise BadRow(f"metadata must have at most {MAX_BYTES} bytes as JSON.")
    value: dict[str, Any] = orjson.loads(plain)
    return value
