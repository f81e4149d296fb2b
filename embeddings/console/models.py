"""Models: what each is and where it runs, made ready by a button; and the form by which operators change them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.utils.html import escape
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldBooleanSwitchWidget

from embeddings.console.audited_page import AuditedPage
from providers.admin import WatchedAdmin
from providers.base import InputType, ModelSpec
from providers.folding import UnicodeSearch
from providers.models import MAX_PROMPT_LENGTH, ModelEntry
from providers.registry import registry

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


@admin.register(ModelEntry)
class ModelEntryAdmin(AuditedPage, UnicodeSearch, WatchedAdmin):
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
