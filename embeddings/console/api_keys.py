"""API keys: made, narrowed, revoked."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from embeddings.access import api_keys
from embeddings.access.caller_lookup import LIMIT_NAMES, caller_of_key, known_keys
from embeddings.access.rights import Rights
from embeddings.console.audited_page import AuditedPage
from embeddings.console.limits import TEMPLATE, shown_limits
from embeddings.console.lists import BigList, typed
from embeddings.console.ranked_pages import RankedPage, problem_of_owner
from embeddings.models import ApiKey
from embeddings.services.errors import ServiceError
from providers.folding import UnicodeSearch


class PatternsField(forms.CharField):
    """A list of names, one a line."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3})

    def __init__(self, **options: Any) -> None:
        text = "One a line; exact, or ending in *. Empty: what the server allows."
        super().__init__(required=False, help_text=text, **options)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return str(value or "").replace(",", "\n").split()


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A key's fields. `request` is set on a subclass, for each request its own."""

    request: ClassVar[HttpRequest]

    allowed_providers = PatternsField()
    allowed_models = PatternsField()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "user" in self.data and not self.data["user"].isdecimal():
            self.data = {
                **self.data,
                "user": "",
            }  # Django's widget takes numbers

    class Meta:
        model = ApiKey
        fields = (
            "user",
            "name",
            "expires_at",
            "allowed_providers",
            "allowed_models",
            "read_only_media",
            *LIMIT_NAMES,
        )

    def clean_user(self) -> User:
        owner: User = self.cleaned_data["user"]
        if problem := problem_of_owner(self.request, owner):
            raise ValidationError(problem)
        return owner

    def clean_allowed_providers(self) -> list[str]:
        return [pattern.lower() for pattern in self._patterns("allowed_providers")]

    def clean_allowed_models(self) -> list[str]:
        return self._patterns("allowed_models")

    def _patterns(self, name: str) -> list[str]:
        try:
            return api_keys.checked_patterns(name, self.cleaned_data[name])
        except ServiceError as error:
            raise ValidationError(error.message) from error


@admin.register(ApiKey)
class ApiKeyAdmin(UnicodeSearch, AuditedPage, RankedPage, BigList):
    section = "Access"
    icon = "key"
    form = ApiKeyForm
    list_display = (
        "prefix",
        "name",
        "user",
        "state",
        "created_at",
        "last_used_at",
        "expires_at",
    )
    list_filter = (typed("user__username", "user"),)
    search_fields = ("prefix", "name", "user__username")
    search_help_text = "Key's beginning, name or user"
    list_select_related = ("user",)
    sortable_by = ("prefix",)
    empty_text = "A key lets a program call the API as its user."
    readonly_fields = (
        "prefix",
        "status",
        "created_at",
        "last_used_at",
        "revoked_at",
    )
    autocomplete_fields = ("user",)
    actions: ClassVar = ["revoke_keys"]

    change_form_before_template = TEMPLATE

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **options: Any
    ) -> HttpResponse:
        if key := context["original"]:
            caller = caller_of_key(known_keys().get(pk=key.pk))
            context["limits"] = shown_limits(caller)
        response: HttpResponse = super().render_change_form(
            request, context, *args, **options
        )
        return response

    @display(  # type: ignore[untyped-decorator]
        description="status",
        label={"active": "success", "expired": "warning", "revoked": "danger"},
    )
    def state(self, row: ApiKey) -> tuple[str, str]:
        return row.status, row.status

    def rights_given(self, row: ApiKey) -> Rights:
        return Rights.of(row.user)

    def get_form(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        form = super().get_form(request, *args, **options)
        form.request = request
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Suggest the operator, who may not be allowed to look for others."""
        given = super().get_changeform_initial_data(request)
        return {"user": str(request.user.pk), **given}

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A key stays its user's."""
        return (*self.readonly_fields, "user") if obj else ()

    def save_model(
        self,
        request: HttpRequest,
        obj: ApiKey,
        form: Any,
        change: bool,  # noqa: FBT001
    ) -> None:
        if not change:
            obj.text = api_keys.issue(obj)  # type: ignore[attr-defined]  # for the answer, and stored nowhere
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: Any = None
    ) -> HttpResponse:
        """Show the key in this answer alone: messages and redirects would carry it in cookies and addresses."""
        page = {
            **self.admin_site.each_context(request),
            "title": "The new key",
            "opts": self.opts,
            "key": obj,
            "text": obj.__dict__.pop("text"),
        }
        response = TemplateResponse(request, "admin/new_api_key.html", page)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke_keys(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        if beyond := [key for key in queryset if self.is_beyond(request, key)]:
            who = ", ".join(sorted({key.user.get_username() for key in beyond}))
            messages.error(
                request,
                f"Nothing was revoked: {who} has permissions that you lack; take their keys out of the selection.",
            )
            return
        for key in queryset:
            before = {"status": key.status}
            api_keys.revoke_key(key)
            self.note(
                request, "revoke", key, before=before, after={"status": key.status}
            )
        messages.success(request, f"Revoked {len(queryset)} key(s).")
