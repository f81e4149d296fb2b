"""The operator's pages for providers: how they are reached, their models, the allowlists, the breakers.

embeddings/admin.py registers them, with the audit of what is changed there.
"""

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet, URLField
from django.http import HttpRequest
from django.utils.html import escape
from unfold.admin import ModelAdmin
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanSwitchWidget,
)

from providers import breaker, canary
from providers.addresses import (
    PROVIDER_NAME,
    environment_name,
    key_variable,
    origin_of,
)
from providers.base import InputType, ModelSpec
from providers.folding import UnicodeSearch
from providers.models import (
    MAX_PROMPT_LENGTH,
    Breaker,
    ModelEntry,
    ProviderSetting,
    RemoteSpace,
    Revision,
)
from providers.registry import registry, wires


class FixedRowsAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows that people neither add nor delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(FixedRowsAdmin):
    """Rows that the server writes and people only read."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class WatchedAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows that every process reads again within two seconds of a change."""

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        Revision.bump()  # a bulk delete does not pass through the rows


NAME_RULE = (
    "Give lower-case letters, digits, - and _, beginning with a letter or a digit."
)


class ProviderSettingForm(forms.ModelForm):  # type: ignore[type-arg]
    """A provider's row. Its key is sent to its address, so not everybody who may change the rest may change that."""

    by_superuser = False

    kind = forms.ChoiceField(
        choices=lambda: [(kind, kind) for kind in registry().addable()],
        help_text="The plug-in that calls it. For any server that speaks as OpenAI does: local_api.",
        widget=UnfoldAdminSelectWidget,
    )

    class Meta:
        error_messages: ClassVar = {"name": {"invalid": NAME_RULE}}

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not PROVIDER_NAME.fullmatch(name):
            raise ValidationError(NAME_RULE)
        variables = {key_variable(other): other for other in registry().names()}
        if other := variables.get(key_variable(name)):
            raise ValidationError(
                f"There is a provider {other}, whose key is in the same variable {key_variable(name)}."
            )
        return name

    def clean_base_url(self) -> str:
        address: str = self.cleaned_data["base_url"]
        unchanged = address == self.instance.base_url
        allowed = origin_of(address) in settings.UPSTREAM_ALLOWED_HOSTS
        if not (self.by_superuser or unchanged or allowed):
            raise ValidationError(
                "Only a superuser may change this address, since the provider's key and all texts are sent to it."
                " UPSTREAM_ALLOWED_HOSTS names hosts that others may set."
            )
        return address

    def clean(self) -> dict[str, Any]:
        """See that the kind can do what the row asks of it."""
        cleaned = super().clean() or self.cleaned_data
        name = cleaned.get("name") or self.instance.name
        kind = cleaned.get("kind") or self.instance.kind
        plugin = registry().plugin(kind)
        if cleaned.get("wire") and (problem := _wire_problem(kind, cleaned["wire"])):
            self.add_error("wire", problem)
        placeless = getattr(plugin, "default_base_url", "") is None and kind != name
        if placeless and "base_url" in cleaned and not cleaned["base_url"]:
            self.add_error("base_url", f"A {kind} needs an address.")
        return cleaned


def _wire_problem(kind: str, wire: str) -> str | None:
    allowed = [
        word for words in wires(registry().plugin(kind)).values() for word in words
    ]
    if wire in allowed:
        return None
    known = f"one of {', '.join(allowed)}, or nothing" if allowed else "nothing"
    return f"For {kind} give {known}."


class ProviderSettingAdmin(WatchedAdmin):
    """Providers. What is installed is there to stay; superusers add others of the same kinds, and delete them."""

    form = ProviderSettingForm
    fields = (
        "name",
        "kind",
        "wire",
        "enabled",
        "base_url",
        "timeout_seconds",
        "setup",
        "key",
    )
    list_display = (
        "name",
        "kind",
        "enabled",
        "setup",
        "key",
        "base_url",
        "timeout_seconds",
    )
    list_filter = ("enabled", "kind")
    formfield_overrides: ClassVar = {URLField: {"assume_scheme": "https"}}

    def get_form(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        form = super().get_form(request, *args, **options)
        form.by_superuser = request.user.is_superuser  # the class is this request's
        return form

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what only a row that is there has."""
        return self.fields if obj else self.fields[:-2]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Keep name and kind as they were added: usage, jobs and vectors are known by them."""
        if obj is None:
            return []
        wire = [] if request.user.is_superuser else ["wire"]
        return ["name", "kind", "setup", "key", *wire]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser and super().has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers delete rows, but none of what is installed: the next start would add it again."""
        fixed = obj and obj.name == obj.kind and obj.name in registry().installed()
        allowed = super().has_delete_permission(request, obj)
        return request.user.is_superuser and allowed and not fixed

    def save_model(
        self,
        request: HttpRequest,
        obj: ProviderSetting,
        form: Any,
        change: bool,  # noqa: FBT001
    ) -> None:
        super().save_model(request, obj, form, change)
        Breaker.objects.get_or_create(provider=obj.name)
        if not change or "wire" in form.changed_data:
            canary.check_again(obj.name)  # one of its name may have been deleted

    def delete_model(self, request: HttpRequest, obj: ProviderSetting) -> None:
        _delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            _delete(row)

    @admin.display(description="set-up")
    def setup(self, row: ProviderSetting) -> str:
        """Say what is missing."""
        provider = registry().get(row.name)
        if provider is not None:
            return provider.configuration_problem() or "ready"
        if registry().plugin(row.kind) is None:
            return "The plug-in is not installed."
        return "Just added: all processes know it within two seconds."

    @admin.display(description="key")
    def key(self, row: ProviderSetting) -> str:
        """Show its variable and the last four characters at most; keys live in the environment."""
        provider = registry().get(row.name)
        if provider and provider.local:
            return "—"
        options = settings.PROVIDERS.get(environment_name(row.name), {})
        key = options.get("api_key") or ""
        shown = f"…{key[-4:]}" if len(key) >= 16 else "set" if key else "not set"
        variable = getattr(provider, "key_variable", key_variable(row.name))
        return f"{variable}: {shown}"


def _delete(row: ProviderSetting) -> None:
    """Delete a row, its breaker and its models. Its usage stays, and what its vectors were like."""
    breaker.forget(row.name)
    ModelEntry.objects.filter(provider=row.name).delete()
    row.delete()


PROMPT_HELP = (
    "Put before each {kind}, white space at its end included. Empty: the model's own ({own}). Vectors made with another"
    " prompt get a vector space of their own: documents must be embedded again."
)


class PromptField(forms.CharField):
    """Words to put before each text, exactly as they were typed."""

    def __init__(self, **options: Any) -> None:
        widget = UnfoldAdminTextareaWidget(attrs={"rows": 2})
        options |= {"required": False, "strip": False, "empty_value": None}
        super().__init__(widget=widget, max_length=MAX_PROMPT_LENGTH, **options)

    def to_python(self, value: Any) -> str | None:
        # Browsers send each line break as two characters.
        text: str | None = super().to_python(value and value.replace("\r\n", "\n"))
        if text and not text.strip():
            raise ValidationError("Give words, or leave it empty.")
        return text


class ModelEntryForm(forms.ModelForm):  # type: ignore[type-arg]
    """A model's entry. An empty prompt means the model's own, so that none at all takes a tick."""

    query_prompt = PromptField()
    no_query_prompt = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget
    )
    document_prompt = PromptField()
    no_document_prompt = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = _own_spec(self.instance)
        kinds: tuple[InputType, ...] = ("query", "document")
        for kind in kinds:
            prompt = repr(own.prompt(kind)) if own and own.prompt(kind) else "none"
            # Django takes a help text for safe HTML; a prompt comes with a model's files.
            self.fields[f"{kind}_prompt"].help_text = PROMPT_HELP.format(
                kind=kind, own=escape(prompt)
            )
            self.fields[f"no_{kind}_prompt"].initial = (
                getattr(self.instance, f"{kind}_prompt") == ""
            )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        provider = registry().get(cleaned.get("provider") or self.instance.provider)
        for kind in ("query", "document"):
            if cleaned.get(f"no_{kind}_prompt"):
                if cleaned.get(f"{kind}_prompt"):
                    self.add_error(
                        f"{kind}_prompt", "Empty this, or take the tick away."
                    )
                cleaned[f"{kind}_prompt"] = ""
            if (
                provider is not None
                and not provider.takes_prompts
                and cleaned.get(f"{kind}_prompt") is not None
            ):
                self.add_error(
                    f"{kind}_prompt",
                    f"The plug-in of {provider.name} puts no prompts before texts; leave it empty.",
                )
        return cleaned


def _own_spec(row: ModelEntry) -> ModelSpec | None:
    """Return the model as its provider describes it, whatever operators set."""
    provider = registry().get(row.provider)
    return provider.resolve(row.name) if provider else None


class ModelEntryAdmin(UnicodeSearch, WatchedAdmin):
    form = ModelEntryForm
    list_display = (
        "name",
        "provider",
        "enabled",
        "dimensions",
        "max_tokens",
        "price_per_million_tokens",
        "vector_space",
    )
    list_filter = ("provider", "enabled", "is_default", "retired")
    search_fields = ("name", "vector_space")


class AllowlistEntryAdmin(WatchedAdmin):
    list_display = ("pattern", "kind")
    list_filter = ("kind",)


class BreakerAdmin(FixedRowsAdmin):
    list_display = (
        "provider",
        "state",
        "failure_count",
        "success_count",
        "opened_at",
        "retry_at",
        "last_error",
    )
    list_filter = ("state",)
    actions: ClassVar = ["reset_breakers"]

    @admin.action(
        description="Close (reset) the selected breakers", permissions=["change"]
    )
    def reset_breakers(self, request: HttpRequest, queryset: QuerySet[Breaker]) -> None:
        for row in queryset:
            breaker.reset(row.provider)
        messages.success(request, f"Closed {len(queryset)} circuit breaker(s).")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field.name for field in Breaker._meta.fields]


class RemoteSpaceAdmin(UnicodeSearch, FixedRowsAdmin):
    """What the canary found. Rows are never deleted: the next check would take any vectors for the right ones."""

    list_display = (
        "model",
        "provider",
        "host",
        "state",
        "cosine",
        "checked_at",
        "revision",
        "accepted_by",
        "last_error",
    )
    list_filter = ("state", "provider")
    search_fields = ("model",)
    fields = (
        "provider",
        "model",
        "host",
        "state",
        "cosine",
        "checked_at",
        "dimensions",
        "seen_dimensions",
        "revision",
        "accepted_by",
        "accepted_at",
        "last_error",
    )
    readonly_fields = fields
    actions: ClassVar = ["accept_revisions"]

    @admin.display(description="dimensions now")
    def seen_dimensions(self, row: RemoteSpace) -> int | None:
        """Show how wide the vectors are that a drifted model gives."""
        return canary.width(row.seen) or row.dimensions

    @admin.action(description="Accept as a new revision", permissions=["change"])
    def accept_revisions(
        self, request: HttpRequest, queryset: QuerySet[RemoteSpace]
    ) -> None:
        accepted = sum(self.accept(request, row) for row in queryset)
        messages.success(request, f"Accepted {accepted} new revision(s).")

    def accept(self, request: HttpRequest, row: RemoteSpace) -> bool:
        """Accept one row; return whether there was something to accept."""
        return canary.accept(row.pk, by=request.user.get_username())
