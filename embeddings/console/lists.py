"""Lists of very many rows: a page costs the same however many there are.

What costs more the more rows there are is left out: counts of all, DISTINCT for the choices of a filter, sorting by
what has no index. In their place: at most `MOST` rows are counted and leafed through, filters have fixed choices or a
box to type in, and a period narrows what is older.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar

from django.contrib.admin import FieldListFilter, ListFilter, ShowFacets
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import DateTimeField, Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin

MOST = 10_000
PERIODS = {
    "hour": ("Last hour", timedelta(hours=1)),
    "day": ("Last 24 hours", timedelta(days=1)),
    "week": ("Last 7 days", timedelta(days=7)),
    "month": ("Last 30 days", timedelta(days=30)),
    "year": ("Last 365 days", timedelta(days=365)),
}
ANY = "any"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages of the first `MOST` rows. `has_more`: there are others."""

    template_name = "console/pagination.html"
    most = MOST

    @cached_property
    def count(self) -> int:
        return min(self._counted, MOST)

    @property
    def has_more(self) -> bool:
        return self._counted > MOST

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: MOST + 1].count())


class BigList(ModelAdmin):  # type: ignore[misc]
    """Put before a page's class whose rows may be very many.

    `period`: the field of time to narrow by, which has an index; `period_at_first`: a name of PERIODS, or any.
    `sortable_by`: columns with an index. `search_among`: how many of the newest are searched; None, all. `empty_text`:
    what to do where there is nothing yet; `empty_link`: the name of a page where to, the words of the link, and the
    permission that it takes. Filters: `typed`, `among`, or of a field with choices; never of a plain field, whose
    values the database would have to collect.
    """

    period: ClassVar[str] = ""
    period_at_first: ClassVar[str] = ANY
    search_among: ClassVar[int | None] = None
    empty_link: ClassVar[tuple[str, str, str] | None] = None
    sortable_by: ClassVar[Any] = ()
    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 0
    list_disable_select_all = True
    show_full_result_count = False
    show_facets = ShowFacets.NEVER

    def get_list_filter(self, request: HttpRequest) -> Sequence[Any]:
        filters = tuple(super().get_list_filter(request))
        return ((self.period, PeriodFilter), *filters) if self.period else filters

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        shown = super().get_changelist_instance(request)
        link = self.empty_link
        shown.empty_link = link if link and request.user.has_perm(link[2]) else None
        return shown

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if search_term and self.search_among:
            newest = queryset.values("pk")[: self.search_among]
            queryset = queryset.filter(pk__in=newest)
        found: tuple[QuerySet[Any], bool] = super().get_search_results(
            request, queryset, search_term
        )
        return found


class PeriodFilter(FieldListFilter):
    """The last hour to year, or from one day to another, both included, in the reader's time zone."""

    template = "console/period_filter.html"

    def __init__(
        self,
        field: Any,
        request: HttpRequest,
        params: Any,
        model: type[Model],
        model_admin: Any,
        field_path: str,
    ) -> None:
        super().__init__(field, request, params, model, model_admin, field_path)
        self.title = "time"
        self.at_first: str = model_admin.period_at_first

    def expected_parameters(self) -> list[str]:  # type: ignore[override]
        return ["period", "from", "to"]

    def given(self, name: str) -> str:
        value = self.used_parameters.get(name) or ""
        return str(value[-1] if isinstance(value, list) else value)

    @property
    def from_day(self) -> str:
        return self.given("from")

    @property
    def to_day(self) -> str:
        return self.given("to")

    @property
    def chosen(self) -> str:
        if self.given("from") or self.given("to"):
            return ""
        return self.given("period") or self.at_first

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        bounds = {}
        if self.chosen in PERIODS:
            bounds["gte"] = timezone.now() - PERIODS[self.chosen][1]
        if first := self._day("from"):
            bounds["gte"] = _start(first)
        if last := self._day("to"):
            bounds["lt"] = _start(last + timedelta(days=1))
        lookups = {
            f"{self.field_path}__{way}": self._of_field(at)
            for way, at in bounds.items()
        }
        return queryset.filter(**lookups)

    def choices(self, changelist: Any) -> Iterator[Any]:
        others = dict(changelist.filter_params)
        for name in self.expected_parameters():
            others.pop(name, None)
        names = {ANY: "Any time"} | {name: text for name, (text, _) in PERIODS.items()}
        for name, text in names.items():
            yield {
                "selected": self.chosen == name,
                "query_string": changelist.get_query_string(
                    {"period": name, "from": None, "to": None}
                ),
                "display": text,
                "others": _pairs(others),
            }

    def _day(self, name: str) -> date | None:
        try:
            return date.fromisoformat(self.given(name)) if self.given(name) else None
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error

    def _of_field(self, at: datetime) -> datetime | date:
        return at if isinstance(self.field, DateTimeField) else at.date()


class _TypedFilter(ListFilter):
    """Rows whose field is what was typed, exactly."""

    template = "console/typed_filter.html"
    lookup: ClassVar[str]
    hint: ClassVar[str]

    def __init__(
        self,
        request: HttpRequest,
        params: dict[str, Any],
        model: type[Model],
        model_admin: Any,
    ) -> None:
        super().__init__(request, params, model, model_admin)
        value = params.pop(self.parameter(), [""])
        self.value = str(value[-1] if isinstance(value, list) else value)

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str]:  # type: ignore[override]
        return [self.parameter()]

    @classmethod
    def parameter(cls) -> str:
        return cls.lookup.partition("__")[0]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        try:
            return (
                queryset.filter(**{self.lookup: self.value}) if self.value else queryset
            )
        except (ValueError, ValidationError) as error:
            raise IncorrectLookupParameters(error) from error

    def choices(self, changelist: Any) -> Iterator[Any]:
        others = dict(changelist.filter_params)
        others.pop(self.parameter(), None)
        yield {
            "value": self.value,
            "name": self.parameter(),
            "hint": self.hint,
            "others": _pairs(others),
        }


def typed(lookup: str, title: str, hint: str = "") -> type[ListFilter]:
    """Return a filter with a box to type in. `lookup`: a field with an index, or one of a related row."""
    members = {"lookup": lookup, "title": title, "hint": hint}
    return type("TypedFilter", (_TypedFilter,), members)


class _AmongFilter(_TypedFilter):
    """Rows whose field is one of some values that are known without asking the database for them."""

    template = "admin/filter.html"
    values: ClassVar[Any]

    def choices(self, changelist: Any) -> Iterator[Any]:
        known = {str(value): str(text) for value, text in type(self).values()}
        for value, text in ({"": "All"} | known).items():
            yield {
                "selected": self.value == value,
                "query_string": changelist.get_query_string(
                    {self.parameter(): value or None}
                ),
                "display": text,
            }


def among(lookup: str, title: str, values: Any) -> type[ListFilter]:
    """Return a filter of fixed choices. `values`: a function that returns pairs of a value and its text."""
    members = {
        "lookup": lookup,
        "title": title,
        "hint": "",
        "values": staticmethod(values),
    }
    return type("AmongFilter", (_AmongFilter,), members)


def _start(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def _pairs(params: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, str(value))
        for name, values in params.items()
        for value in (values if isinstance(values, list) else [values])
    ]
