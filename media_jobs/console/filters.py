"""Filters of long lists: their choices come from the newest rows, so that no table is read whole to offer them."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

NEWEST = 1000


class RecentValues(admin.SimpleListFilter):
    """The values of a column among the newest rows. The address may name others."""

    column: str
    shown: str  # the column that people read

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        model: type[Model] = model_admin.model
        newest = model._default_manager.order_by("-pk")
        rows = newest.values_list(self.column, self.shown)[:NEWEST]
        return [
            (str(value), str(shown))
            for value, shown in sorted({row for row in rows if row[0]}, key=str)
        ]

    def has_output(self) -> bool:
        """Also where there is nothing to choose but the address names a value: else it would be passed over."""
        return self.value() is not None or super().has_output()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        try:
            return queryset.filter(**{self.column: value})
        except ValueError:
            return queryset.none()


class ModelFilter(RecentValues):
    title = "model"
    parameter_name = "embedding_model"
    column = shown = "embedding_model"


class ProviderFilter(RecentValues):
    title = "provider"
    parameter_name = "embedding_provider"
    column = shown = "embedding_provider"


class LanguageFilter(RecentValues):
    title = "language"
    parameter_name = "language"
    column = shown = "language"


class OwnerFilter(RecentValues):
    title = "owner"
    parameter_name = "owner"
    column = "owner_id"
    shown = "owner__username"


class EmbeddedFilter(admin.SimpleListFilter):
    title = "vectors"
    parameter_name = "embedded"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "embedded"), ("no", "not embedded")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "yes":
            return queryset.filter(embedding_count__gt=0)
        return queryset.filter(embedding_count=0) if self.value() == "no" else queryset
