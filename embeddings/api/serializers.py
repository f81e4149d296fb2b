"""What a client may send. Unknown fields are refused, and every error names its field or index."""

from collections.abc import Set
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty

from embeddings.api.representation import ENCODINGS
from embeddings.fast_path.rest_framework import Plain, PlainText
from embeddings.services.types import Input

MAX_ITEMS = 2048
MAX_DIMENSIONS = 8192
MAX_TOKEN_ID = 2**31 - 1
EPOCH_YEAR = 1970


TEXT_SCHEMA = {"type": "string", "minLength": 1, "pattern": r"\S"}
TOKENS_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID},
}
INPUT_SCHEMA = {
    "oneOf": [
        TEXT_SCHEMA,
        {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": TEXT_SCHEMA},
        TOKENS_SCHEMA,
        {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": TOKENS_SCHEMA},
    ]
}


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer that refuses fields it does not know, and takes null in an optional one for a field not sent."""

    def get_fields(self) -> dict[str, Any]:
        """Add to the optional fields that they may be null, for the document of the API."""
        fields = super().get_fields()
        for field in fields.values():
            field.allow_null = field.allow_null or not field.required
        return fields

    def run_validation(self, data: Any = empty) -> Any:
        return super().run_validation(self._sent(data))

    def _sent(self, data: Any) -> Any:
        """Return the body without its optional fields that are null: many clients write out all they know."""
        if not isinstance(data, dict) or None not in data.values():
            return data
        return {
            name: value
            for name, value in data.items()
            if value is not None or name not in self._optional
        }

    @cached_property
    def _optional(self) -> Set[str]:
        return {name for name, field in self.fields.items() if not field.required}

    def to_internal_value(self, data: Any) -> Any:
        unknown = (
            sorted(data.keys() - self.fields.keys()) if isinstance(data, dict) else []
        )
        if unknown:
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {unknown[0]: f"is not a field of this request; known: {known}."}
            )
        return super().to_internal_value(data)


class StrictCharField(PlainText, serializers.CharField):
    """A string that was sent as a string: numbers are not turned into text, blanks not cut off."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("must be a string.")
        if "\0" in data:
            raise serializers.ValidationError("must not contain NUL characters.")
        return super().to_internal_value(data)


@extend_schema_field({"type": "boolean"})
class StrictBooleanField(serializers.Field[bool, Any, bool, Any]):
    """True or false, and no word for either."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("must be true or false.")
        return data


class StrictIntegerField(serializers.IntegerField):
    """A whole number that was sent as one: no strings, no true or false, no 1.0."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("must be a whole number.")
        return super().to_internal_value(data)


@extend_schema_field({"type": "string"})
class MomentField(serializers.Field[datetime, Any, Any, Any]):
    """A date or a time, UTC unless it says otherwise. `end`: a date means its end."""

    def __init__(self, *, end: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._end = end

    def to_internal_value(self, data: Any) -> datetime:
        # A plus sign that was not escaped arrives as a blank.
        text = str(data).strip().replace(" ", "+")
        try:
            day = parse_date(text)
            moment = self._of_day(day) if day else parse_datetime(text)
            if moment and moment.year >= EPOCH_YEAR:
                return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise serializers.ValidationError(
            "must be a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z."
        )

    def _of_day(self, day: date) -> datetime:
        start = datetime.combine(day, time(), UTC)
        return start + timedelta(days=1) if self._end else start


def check_text(text: str, where: str) -> None:
    """Raise ValidationError naming `where` for a text that nothing can be embedded of."""
    if not text.strip():
        raise serializers.ValidationError(f"{where} must not be empty or blank.")
    if "\0" in text:
        raise serializers.ValidationError(f"{where} must not contain NUL characters.")


def check_tokens(tokens: list[Any], where: str) -> None:
    """Raise ValidationError naming the place of the first thing in `tokens` that is no token id."""
    if not tokens:
        raise serializers.ValidationError(f"{where} must not be an empty token array.")
    for position, token in enumerate(tokens):
        if type(token) is not int or not 0 <= token <= MAX_TOKEN_ID:
            raise serializers.ValidationError(
                f"{where}[{position}] must be a token id (a whole number from 0)."
            )


@extend_schema_field(INPUT_SCHEMA)
class InputField(serializers.Field[list[Input], Any, Any, Any]):
    """The four forms of `input`: a string, a list of strings, a token array, a list of token arrays."""

    def to_internal_value(self, data: Any) -> list[Input]:
        if isinstance(data, str):
            check_text(data, "input")
            return [data]
        if not isinstance(data, list):
            raise serializers.ValidationError(
                "input must be a string, a list of strings, a list of token ids, or a list of lists of token ids."
            )
        if not data:
            raise serializers.ValidationError("input must not be an empty list.")
        if type(data[0]) is int:
            check_tokens(data, "input")
            return [data]
        if len(data) > MAX_ITEMS:
            raise serializers.ValidationError(
                f"input must have at most {MAX_ITEMS} items, not {len(data)}."
            )
        self._check_items(data)
        return data

    @staticmethod
    def _check_items(items: list[Any]) -> None:
        kind = type(items[0])
        if kind not in (str, list):
            raise serializers.ValidationError(
                "input[0] must be a string, a token id or a list of token ids."
            )
        wanted = "a string" if kind is str else "a list of token ids"
        for index, item in enumerate(items):
            where = f"input[{index}]"
            if type(item) is not kind:
                raise serializers.ValidationError(
                    f"{where} must be {wanted}, like input[0]."
                )
            check_text(item, where) if isinstance(item, str) else check_tokens(
                item, where
            )


@extend_schema_field(
    {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": TEXT_SCHEMA}
)
class TextsField(serializers.Field[list[str], Any, Any, Any]):
    """A list of strings (the batch endpoint takes no token arrays)."""

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list) or not data:
            raise serializers.ValidationError(
                "texts must be a list of at least one string."
            )
        if len(data) > MAX_ITEMS:
            raise serializers.ValidationError(
                f"texts must have at most {MAX_ITEMS} items, not {len(data)}."
            )
        for index, text in enumerate(data):
            if not isinstance(text, str):
                raise serializers.ValidationError(f"texts[{index}] must be a string.")
            check_text(text, f"texts[{index}]")
        return data


INPUT_TYPES = {
    "query": "query",
    "document": "document",
    "search_query": "query",
    "search_document": "document",
    "passage": "document",
}


def input_type_field() -> serializers.ChoiceField:
    """Return the field that is the header's twin; its spellings are those of other servers, too."""
    return serializers.ChoiceField([*INPUT_TYPES], required=False)


class EmbeddingRequestSerializer(Plain, StrictSerializer):
    """The body of `POST /embeddings`."""

    input = InputField()
    model = StrictCharField(max_length=512)
    encoding_format = serializers.ChoiceField([*ENCODINGS], default="float")
    dimensions = StrictIntegerField(
        min_value=1, max_value=MAX_DIMENSIONS, required=False
    )
    user = StrictCharField(max_length=256, required=False)
    input_type = input_type_field()


class BatchRequestSerializer(Plain, StrictSerializer):
    """The body of `POST /embeddings/batch`."""

    texts = TextsField()
    model = StrictCharField(max_length=512, required=False)
    provider = StrictCharField(max_length=64, required=False)
    dimensions = StrictIntegerField(
        min_value=1, max_value=MAX_DIMENSIONS, required=False
    )
    input_type = input_type_field()


class ModelActionSerializer(StrictSerializer):
    """The body of warm-up and download."""

    model = StrictCharField(max_length=512)
    provider = StrictCharField(max_length=64, required=False)
