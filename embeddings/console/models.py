"""Models: what each is and where it runs, made ready by a button; and the form by which operators change them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.html import escape
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanSwitchWidget,
)

from embeddings.console.audited_page import AuditedPage
from embeddings.console.page import ConsolePage, action
from embeddings.services.action_records import Kind, cancel_actions, recent_actions
from embeddings.services.catalog import ModelState, model_states
from embeddings.services.default_model import make_default
from embeddings.services.errors import ServiceError
from embeddings.services.model_actions import start
from embeddings.services.recommended_prompts import take_recommended_prompts
from providers.admin import WatchedAdmin
from providers.base import InputType, ModelSpec
from providers.folding import UnicodeSearch
from providers.models import MAX_PROMPT_LENGTH, ModelEntry
from providers.registry import registry

DONE_WORDS: dict[Kind, str] = {"download": "download", "warm_up": "warm-up"}
# How often the page looks: while something is in progress, and for what others begin.
BUSY_SECONDS, IDLE_SECONDS = 2, 20


class Models(ConsolePage):
    """All models, with what each is doing."""

    route = "gateway/models/"
    title = "Models"
    icon = "category"
    section = "Gateway"
    needs = ("providers.view_modelentry",)
    parts: ClassVar = {"actions": "console/model_actions.html"}

    def show(self) -> dict[str, Any]:
        asked = self.request.GET.copy()
        since = asked.pop("since", [""])[-1]
        if asked.pop("part", None) == ["actions"]:
            return _shown_actions(asked, since)
        provider, words = asked.get("provider", ""), asked.get("q", "").strip()
        states = [
            one
            for one in model_states()
            if provider in ("", one.target.provider.name)
            and words.lower() in one.target.model.name.lower()
        ]
        user = self.request.user
        return {
            **_shown_actions(asked),
            "groups": list(_by_provider(states)),
            "providers": registry().names(),
            "local": [one.name for one in registry().all() if one.local],
            "may_edit": user.has_perm("providers.change_modelentry"),
            "may_add": user.has_perm("providers.add_modelentry"),
        }

    @action("providers.change_modelentry")
    def download(self, request: HttpRequest) -> None:
        """Fetch and prepare a local model in the background."""
        self._start("download", request)

    @action("providers.change_modelentry")
    def warm_up(self, request: HttpRequest) -> None:
        """Load a model, or open its connection, in the background."""
        self._start("warm_up", request)

    @action("providers.change_modelentry")
    def cancel(self, request: HttpRequest) -> None:
        """Stop a download or a warm-up that is under way."""
        given = request.POST
        kind: Kind = "warm_up" if given.get("kind") == "warm_up" else "download"
        provider, model = given.get("provider", ""), given.get("model", "")
        if not cancel_actions(kind, provider, model):
            messages.info(request, "It was over already.")
            return
        self.note(f"cancel {DONE_WORDS[kind]}", f"model {provider}:{model}")
        messages.success(
            request,
            f"Cancelled the {DONE_WORDS[kind]} of {provider}:{model}; it stops within seconds.",
        )

    @action("providers.change_modelentry")
    def make_default(self, request: HttpRequest) -> None:
        """Have a model serve the requests that name none."""
        given = request.POST
        try:
            former, target = make_default(
                given.get("provider", ""), given.get("model", "")
            )
        except ServiceError as error:
            messages.error(request, error.message)
            return
        label = f"{target.provider.name}:{target.model.name}"
        self.note(
            "make default",
            f"model {label}",
            before={"default": former},
            after={"default": label},
        )
        messages.success(
            request, f"Requests that name no model now go to {target.label}."
        )

    @action("providers.change_modelentry")
    def take_prompts(self, request: HttpRequest) -> None:
        """Have a model use the prompts that its card recommends."""
        given = request.POST
        try:
            target = take_recommended_prompts(
                given.get("provider", ""), given.get("model", "")
            )
        except ServiceError as error:
            messages.error(request, error.message)
            return
        if target is None or target.model.recommended_prompts is None:
            messages.info(request, "It uses the prompts of its card already.")
            return
        query, document = target.model.recommended_prompts
        self.note(
            "take recommended prompts",
            f"model {target.label}",
            after={"query": query, "document": document},
        )
        messages.success(
            request,
            f"{target.label} uses the prompts of its card now. Documents embedded before must be embedded again.",
        )

    def _start(self, kind: Kind, request: HttpRequest) -> None:
        given, by = request.POST, request.user.get_username()
        model, provider = given.get("model", "").strip(), given.get("provider") or None
        try:
            begun = start(kind, model=model, provider=provider, by=by)
        except ServiceError as error:
            messages.error(request, error.message)
            return
        label = f"{begun.provider}:{begun.model}"
        if begun.by:
            messages.info(
                request,
                f"The {DONE_WORDS[kind]} of {label} is under way already, begun by {begun.by}.",
            )
            return
        self.note(DONE_WORDS[kind], f"model {label}")
        messages.success(request, f"Began the {DONE_WORDS[kind]} of {label}.")


def _shown_actions(asked: QueryDict, since: str = "") -> dict[str, Any]:
    """Return the downloads and warm-ups, and whether one ended after `since`, when the page looked last."""
    now, actions = timezone.now(), recent_actions()
    try:
        last = float(since or "inf")
    except ValueError:
        last = math.inf
    busy = any(one.running for _, _, one in actions)
    ended = (one.finished_at for _, _, one in actions)
    return {
        "actions": actions,
        "asked": asked,
        "now": str(now.timestamp()),
        "look_again": BUSY_SECONDS if busy else IDLE_SECONDS,
        "just_finished": any(at and at.timestamp() > last for at in ended),
    }


Row = tuple[ModelState, int | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A provider, what its set-up lacks, and its models. `elsewhere`: those to be downloaded."""

    provider: str
    problem: str | None
    here: Sequence[Row]
    elsewhere: Sequence[Row]

    @property
    def count(self) -> int:
        return len(self.here) + len(self.elsewhere)


def _by_provider(states: Sequence[ModelState]) -> Iterator[Group]:
    rows = _with_entries(states)
    for name, group in groupby(rows, lambda row: row[0].target.provider.name):
        parts: dict[bool, list[Row]] = {True: [], False: []}
        for row in group:
            state = row[0]
            parts[state.downloaded is not False or state.default].append(row)
        [first, *_] = parts[True] or parts[False]
        yield Group(
            provider=name,
            problem=first[0].target.provider.configuration_problem(),
            here=parts[True],
            elsewhere=parts[False],
        )


def _with_entries(states: Sequence[ModelState]) -> Iterator[Row]:
    """Yield each state with its entry, and, where it has none, with what a form for a new one begins with."""
    keys = {
        (provider, name): pk
        for pk, provider, name in ModelEntry.objects.values_list(
            "pk", "provider", "name"
        )
    }
    for state in states:
        provider, model = state.target.provider.name, state.target.model
        begin = {
            "provider": provider,
            "name": model.name,
            "vector_space": model.vector_space.partition("#")[0],
            "dimensions": model.dimensions or "",
            "max_tokens": model.max_tokens or "",
        }
        yield state, keys.get((provider, model.name)), urlencode(begin)


PROMPT_HELP = (
    "Put before each {kind}, white space at its end included. Empty: the model's own ({own}). Vectors made with another"
    " prompt get a vector space of their own: documents must be embedded again."
)
NO_PROMPT_HELP = "Put nothing before it, not even the model's own prompt."


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


class SizesField(forms.JSONField):
    """Native dimensions, as they are stored; empty where there are none."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class ModelEntryForm(forms.ModelForm):  # type: ignore[type-arg]
    """A model's entry. An empty prompt means the model's own, so that none at all takes a tick."""

    provider = forms.ChoiceField(
        choices=lambda: [(name, name) for name in registry().names()],
        widget=UnfoldAdminSelectWidget,
    )
    native_dimensions = SizesField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text=ModelEntry._meta.get_field("native_dimensions").help_text,
    )
    query_prompt = PromptField()
    no_query_prompt = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget, help_text=NO_PROMPT_HELP
    )
    document_prompt = PromptField()
    no_document_prompt = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget, help_text=NO_PROMPT_HELP
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = _own_spec(self.instance)
        provider = self.instance.provider
        if provider and provider not in registry().names():  # deleted, or uninstalled
            absent = (provider, f"{provider} (absent)")
            names = [(name, name) for name in registry().names()]
            self.fields["provider"] = forms.ChoiceField(
                choices=[*names, absent], widget=UnfoldAdminSelectWidget
            )
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
        other = ModelEntry.objects.filter(is_default=True).exclude(pk=self.instance.pk)
        if cleaned.get("is_default") and (former := other.first()):
            self.add_error(
                "is_default",
                f"{former} is the default. Press “Make default” on the page of models to change that,"
                " or take the tick off there first.",
            )
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
    change_form_outer_before_template = "console/model_form_links.html"
    fieldsets = (
        (None, {"fields": ("provider", "name", "enabled", "is_default", "retired")}),
        ("Vectors", {"fields": ("dimensions", "native_dimensions", "vector_space")}),
        (
            "Limits and price",
            {"fields": ("max_tokens", "price_per_million_tokens")},
        ),
        (
            "Prompts",
            {
                "fields": (
                    *("query_prompt", "no_query_prompt"),
                    *("document_prompt", "no_document_prompt"),
                )
            },
        ),
    )
    search_fields = ("name", "vector_space")
