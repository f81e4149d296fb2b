"""Dataclasses as JSON, and the schemas of that JSON."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

import orjson
import pytest

from embeddings.api.json_types import LeftOut, filled, plain, schema_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    word: Literal["a", "b"]
    number: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    from_: datetime
    parts: list[Part]
    by_name: dict[str, Part]
    size: list[int] | Part | None
    cost: Decimal
    problem: LeftOut[str]


def whole(**changes):
    part = Part(word="a", number=None)
    given: dict[str, Any] = {
        "from_": datetime(2026, 1, 31, 12, 0, 0, 999_999, tzinfo=UTC),
        "parts": [part],
        "by_name": {"x": part},
        "size": None,
        "cost": Decimal("0.25"),
        "problem": None,
    }
    return Whole(**given | changes)


def test_dataclass_is_written_field_by_field_with_times_to_the_second():
    part = {"word": "a", "number": None}
    assert list(plain(whole()).items()) == [
        ("from", "2026-01-31T12:00:00Z"),
        ("parts", [part]),
        ("by_name", {"x": part}),
        ("size", None),
        ("cost", 0.25),
    ]


def test_field_is_left_out_only_while_it_is_none():
    assert plain(whole(problem=""))["problem"] == ""


def test_schema_says_what_is_written():
    part = {
        "type": "object",
        "required": ["word", "number"],
        "properties": {
            "word": {"type": "string", "enum": ["a", "b"]},
            "number": {"type": "integer", "nullable": True},
        },
    }
    numbers = {"type": "array", "items": {"type": "integer"}}
    assert schema_of(Whole) == {
        "type": "object",
        "required": ["from", "parts", "by_name", "size", "cost"],
        "properties": {
            "from": {"type": "string", "format": "date-time"},
            "parts": {"type": "array", "items": part},
            "by_name": {"type": "object", "additionalProperties": part},
            "size": {"oneOf": [numbers, part], "nullable": True},
            "cost": {"type": "number"},
            "problem": {"type": "string"},
        },
    }


def test_typed_dict_may_lack_what_is_not_required():
    class Row(TypedDict, total=False):
        day: date
        any: Annotated[Any, {"description": "Anything."}]

    assert schema_of(Row) == {
        "type": "object",
        "required": [],
        "properties": {
            "day": {"type": "string", "format": "date"},
            "any": {"description": "Anything."},
        },
    }


def test_type_that_no_answer_holds_is_refused():
    with pytest.raises(KeyError):
        schema_of(bytes)
    with pytest.raises(orjson.JSONEncodeError):
        plain({"key": b"secret"})


def test_filled_takes_what_is_not_given_from_the_source():
    assert filled(Part, Part(word="a", number=1), word="b") == Part(word="b", number=1)
