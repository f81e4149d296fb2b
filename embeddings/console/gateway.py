"""The gateway's rows: providers, models, allowlists, breakers, remote spaces."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from embeddings.console.audited_page import AuditedPage
from embeddings.services.audit import snapshot
from embeddings.services.cache.cache import embedding_cache
from providers import admin as providers_admin
from providers.models import (
    AllowlistEntry,
    Breaker,
    ModelEntry,
    ProviderSetting,
    RemoteSpace,
)


@admin.register(ProviderSetting)
class ProviderSettingAdmin(AuditedPage, providers_admin.ProviderSettingAdmin):
    section = "Gateway"
    icon = "cloud"

    def save_model(
        self,
        request: HttpRequest,
        obj: ProviderSetting,
        form: Any,
        change: bool,  # noqa: FBT001
    ) -> None:
        super().save_model(request, obj, form, change)
        if not change:  # one of its name may have been deleted
            embedding_cache().clear()


@admin.register(ModelEntry)
class ModelEntryAdmin(AuditedPage, providers_admin.ModelEntryAdmin):
    section = "Gateway"
    icon = "category"


@admin.register(AllowlistEntry)
class AllowlistEntryAdmin(AuditedPage, providers_admin.AllowlistEntryAdmin):
    section = "Gateway"
    icon = "rule"


@admin.register(Breaker)
class BreakerAdmin(AuditedPage, providers_admin.BreakerAdmin):
    section = "Gateway"
    icon = "electrical_services"

    @admin.action(
        description="Close (reset) the selected breakers", permissions=["change"]
    )
    def reset_breakers(self, request: HttpRequest, queryset: QuerySet[Breaker]) -> None:
        before = [(row, snapshot(row)) for row in queryset]
        super().reset_breakers(request, queryset)
        for row, state in before:
            self.note(request, "reset", row, before=state, after={"state": "closed"})


@admin.register(RemoteSpace)
class RemoteSpaceAdmin(AuditedPage, providers_admin.RemoteSpaceAdmin):
    section = "Gateway"
    icon = "hub"

    def audit_state(self, row: Model) -> dict[str, Any]:
        names = ("state", "revision", "cosine")  # not the vectors
        return {name: getattr(row, name) for name in names}

    def accept(self, request: HttpRequest, row: RemoteSpace) -> bool:
        before = self.audit_state(row)
        accepted = super().accept(request, row)
        if accepted:
            self.note(request, "accept", row, before=before, after=self._stored(row))
        return accepted
