"""The gateway's remote spaces: what the check of remote models found."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from embeddings.console.audited_page import AuditedPage
from providers import admin as providers_admin
from providers.models import (
    RemoteSpace,
)


@admin.register(RemoteSpace)
class RemoteSpaceAdmin(AuditedPage, providers_admin.RemoteSpaceAdmin):
    section = "Gateway"
    icon = "hub"
    empty_text = "A remote model is listed once its vectors were checked, which its first use begins."

    def audit_state(self, row: Model) -> dict[str, Any]:
        names = ("state", "revision", "cosine")  # not the vectors
        return {name: getattr(row, name) for name in names}

    def accept(self, request: HttpRequest, row: RemoteSpace) -> bool:
        before = self.audit_state(row)
        accepted = super().accept(request, row)
        if accepted:
            self.note(request, "accept", row, before=before, after=self._stored(row))
        return accepted
