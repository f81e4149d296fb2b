"""Users with their limits, and groups."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin, StackedInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from embeddings.access.caller_lookup import (
    LIMIT_NAMES,
    caller_of_user,
    known_users,
    user_limits,
)
from embeddings.access.rights import Rights
from embeddings.console.audited_page import AuditedPage
from embeddings.console.limits import TEMPLATE, shown_limits
from embeddings.console.lists import BigList
from embeddings.console.ranked_pages import RankedPage, rights_of_group
from embeddings.models import ApiKey, UserLimits
from embeddings.services.audit import snapshot
from embeddings.services.callers import Caller
from providers.folding import UnicodeSearch

MOST_KEYS = 20

for model in (User, Group):
    admin.site.unregister(model)


class UserLimitsInline(StackedInline):  # type: ignore[misc]
    model = UserLimits
    can_delete = True
    fields = (*LIMIT_NAMES, "max_documents", "max_stored_bytes", "max_queued_jobs")


@admin.register(User)
class UserAdmin(UnicodeSearch, AuditedPage, RankedPage, DjangoUserAdmin, BigList):  # type: ignore[type-arg, misc]
    section = "Access"
    icon = "person"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = (UserLimitsInline,)
    list_filter = ("is_staff", "is_superuser", "is_active")
    sortable_by = ("username",)

    change_form_before_template = TEMPLATE

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **options: Any
    ) -> HttpResponse:
        if user := context.get("original"):
            caller = caller_of_user(known_users().get(pk=user.pk))
            context["limits"] = self.limits_of(request, caller)
            if request.user.has_perm("embeddings.view_apikey"):
                context["keys_of_user"] = ApiKey.objects.filter(user=user)[:MOST_KEYS]
        response: HttpResponse = super().render_change_form(
            request, context, *args, **options
        )
        return response

    def limits_of(self, request: HttpRequest, caller: Caller) -> dict[str, Any]:
        """Return what is shown of a user's limits."""
        return shown_limits(caller)

    def rights_given(self, row: User) -> Rights:
        return Rights.of(row)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Superusers alone make superusers."""
        fixed = super().get_readonly_fields(request, obj)
        return fixed if request.user.is_superuser else (*fixed, "is_superuser")

    def audit_state(self, row: Model) -> dict[str, Any]:
        limits = user_limits(row) if isinstance(row, User) else None
        return {**snapshot(row), "limits": snapshot(limits) if limits else None}

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        user = self.get_object(request, id)
        response = super().user_change_password(request, id, form_url)
        if user and User.objects.get(pk=user.pk).password != user.password:
            self.note(request, "change", user, after={"password": "changed"})
        return response


@admin.register(Group)
class GroupAdmin(UnicodeSearch, AuditedPage, RankedPage, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    section = "Access"
    icon = "group"
    empty_text = "A group gives its permissions to the users in it."

    def get_deleted_objects(
        self, objs: Sequence[Group] | QuerySet[Group], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count who is in them: Django would list each link to a permission."""
        groups = list(objs)
        counts = {
            "groups": len(groups),
            "users who lose their permissions": User.objects.filter(groups__in=groups)
            .distinct()
            .count(),
        }
        may = all(self.has_delete_permission(request, group) for group in groups)
        lacking = set() if may else {"groups with permissions that you lack"}
        return [str(group) for group in groups], counts, lacking, []

    def rights_given(self, row: Group) -> Rights:
        return rights_of_group(row)
