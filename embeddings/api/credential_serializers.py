"""What a client may send to get tokens and keys."""

import math
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from embeddings.access.api_keys import MAX_PATTERN_LENGTH, MAX_PATTERNS
from embeddings.api.serializers import (
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)

MAX_COUNT = 2**31 - 1  # what the database's column holds
MAX_MONTHLY_TOKENS = 2**53 - 1  # what JavaScript counts exactly
MAX_COST_USD = 10_000_000


@extend_schema_field({"type": "boolean"})
class StrictBooleanField(serializers.Field[bool, Any, bool, Any]):
    """True or false, and no word for either."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("must be true or false.")
        return data


@extend_schema_field({"type": "number", "minimum": 0, "maximum": MAX_COST_USD})
class CostField(serializers.Field[Decimal, Any, float, Any]):
    """US dollars, to four places."""

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError("must be a number.")
        if not math.isfinite(data) or not 0 <= data <= MAX_COST_USD:
            raise serializers.ValidationError(f"must lie between 0 and {MAX_COST_USD}.")
        return Decimal(str(data)).quantize(Decimal("0.0001"))


@extend_schema_field(
    {
        "type": "array",
        "maxItems": MAX_PATTERNS,
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_PATTERN_LENGTH,
            "pattern": r"^[^*\s]+\*?$|^\*$",
        },
    }
)
class PatternsField(serializers.Field[list[str], Any, list[str], Any]):
    """A list of names, exact or ending in `*`; the service checks each."""

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list) or not all(isinstance(d, str) for d in data):
            raise serializers.ValidationError("must be a list of strings.")
        if any("\0" in pattern for pattern in data):
            raise serializers.ValidationError("must not contain NUL characters.")
        return data


class LimitsSerializer(StrictSerializer):
    """The limits of a key."""

    requests_per_minute = StrictIntegerField(
        min_value=1, max_value=MAX_COUNT, required=False
    )
    burst = StrictIntegerField(min_value=1, max_value=MAX_COUNT, required=False)
    tokens_per_minute = StrictIntegerField(
        min_value=1, max_value=MAX_COUNT, required=False
    )
    monthly_tokens = StrictIntegerField(
        min_value=0, max_value=MAX_MONTHLY_TOKENS, required=False
    )
    monthly_cost_usd = CostField(required=False)


class NewKeySerializer(StrictSerializer):
    """The body of `POST /auth/keys`."""

    name = StrictCharField(max_length=100, allow_blank=True, required=False)
    expires_in_days = StrictIntegerField(min_value=1, max_value=3650, required=False)
    allowed_providers = PatternsField(required=False)
    allowed_models = PatternsField(required=False)
    read_only_media = StrictBooleanField(required=False)
    limits = LimitsSerializer(required=False)


class LoginSerializer(StrictSerializer):
    """The body of `POST /auth/token`."""

    username = StrictCharField(max_length=150)
    password = StrictCharField(max_length=1024)


class RefreshSerializer(StrictSerializer):
    """The body of `POST /auth/token/refresh`."""

    refresh = StrictCharField(max_length=8192)
