"""Console pages that write every change to the audit log, in the transaction that makes it."""

from typing import Any

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from embeddings.models import AuditEntry
from embeddings.services.audit import State, changed, record, snapshot


class AuditedPage(ModelAdmin):  # type: ignore[misc]
    """Put before a page's class: additions, changes (inlines included) and deletions are written down."""

    def audit_state(self, row: Model) -> dict[str, Any]:
        """Return what is written down of a row."""
        return snapshot(row)

    def save_model(
        self,
        request: HttpRequest,
        obj: Any,
        form: Any,
        change: bool,  # noqa: FBT001
    ) -> None:
        form.audited_before = self._stored(obj) if change else None
        super().save_model(request, obj, form, change)

    def save_related(
        self,
        request: HttpRequest,
        form: Any,
        formsets: Any,
        change: bool,  # noqa: FBT001
    ) -> None:
        super().save_related(request, form, formsets, change)
        before, after = form.audited_before, self._stored(form.instance)
        if before is None:
            self.note(request, "add", form.instance, after=after)
            return
        before, after = changed(before, after)
        if after:
            self.note(request, "change", form.instance, before=before, after=after)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        before = self._stored(obj)
        self.note(request, "delete", obj, before=before)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.note(request, "delete", row, before=self.audit_state(row))
        super().delete_queryset(request, queryset)

    def note(
        self,
        request: HttpRequest,
        action: str,
        row: Model,
        *,
        before: State | None = None,
        after: State | None = None,
    ) -> None:
        """Write down what the user of this request did to `row`."""
        record(
            source=AuditEntry.Source.CONSOLE,
            actor=request.user.get_username(),
            action=action,
            target=f"{row._meta.verbose_name} {row}",
            before=before,
            after=after,
        )

    def _stored(self, row: Model) -> dict[str, Any]:
        return self.audit_state(type(row)._default_manager.get(pk=row.pk))
