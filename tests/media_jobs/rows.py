"""A row of each model that the console lists, made of its fields, so that a new model needs none of its own."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils import timezone

# JSON that the server alone writes, in a shape that it counts on.
SHAPED: dict[str, Callable[[str], Any]] = {
    "stages": lambda text: {text: 1},
    "history": lambda text: [
        {
            "began": None,
            "ended": "2026-01-01T00:00:00+00:00",
            "outcome": "failed",
            "reason": text,
            "times": 1,
        }
    ],
}
OURS = {"public_id"}  # made by the server


def listed_models() -> list[type[models.Model]]:
    """Return the models with a page in the console."""
    return sorted(admin.site._registry, key=lambda model: model._meta.label)


def make_row(model: type[models.Model], text: str) -> models.Model:
    """Store a row of `model` that says `text` wherever it may, with what it belongs to."""
    if existing := model._default_manager.filter(**_marked(model, text)).first():
        return existing
    fields = {
        field.name: _value(field, text)
        for field in model._meta.concrete_fields
        if not field.auto_created and not (field.null and field.unique)
    }
    row = model(**fields)
    model._default_manager.bulk_create([row])  # without what a model's save() does
    return model._default_manager.get(**_marked(model, text))


def _marked(model: type[models.Model], text: str) -> dict[str, Any]:
    """Return what tells the row of `text` from others."""
    for field in model._meta.concrete_fields:
        if _takes_text(field):
            return {field.name: _cut(field, text)}
    return {}


def _takes_text(field: Any) -> bool:
    is_text = isinstance(field, models.CharField | models.TextField)
    is_address = isinstance(field, models.URLField)
    return is_text and not field.choices and not is_address


def _cut(field: Any, text: str) -> str:
    if field.name in OURS or isinstance(field, models.SlugField):
        text = "-".join(re.findall("[a-z]+", text))
    return text[: field.max_length] if field.max_length else text


def _value(field: Any, text: str) -> Any:
    if field.choices:
        return field.choices[0][0]
    if field.is_relation:
        related = field.related_model
        if related is ContentType:
            return ContentType.objects.get_for_model(models.Model)
        return make_row(related, text)
    if isinstance(field, models.URLField):
        return f"https://example.org/{text}"[: field.max_length]
    if _takes_text(field):
        return _cut(field, text)
    if field.name in SHAPED:
        return SHAPED[field.name](text)
    if isinstance(field, models.JSONField):
        is_list = isinstance(field.get_default(), list)
        return [text] if is_list else {text: text}
    return _plain(field)


def _plain(field: Any) -> Any:
    kinds: list[tuple[Any, Any]] = [
        (models.DateTimeField, timezone.now()),
        (models.DateField, timezone.now().date()),
        (models.BooleanField, False),
        (models.DecimalField, Decimal(1)),
        (models.FloatField, 1.0),
        (models.BinaryField, b""),
        (models.IntegerField, 1),
    ]
    return next(value for kind, value in kinds if isinstance(field, kind))
