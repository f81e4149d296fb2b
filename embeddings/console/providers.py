"""Providers: how each is set up and does, tried by a button; and the forms by which operators change and add them."""

from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet, URLField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.text import capfirst
from unfold.widgets import UnfoldAdminSelectWidget

from embeddings.console.audited_page import AuditedPage
from embeddings.console.breakers import BreakerActions
from embeddings.console.page import action
from embeddings.services.cache.cache import embedding_cache
from embeddings.services.errors import ProviderNotFound
from embeddings.services.provider_overview import (
    breaker_story,
    key_shown,
    past_tests,
    provider_overviews,
    set_up_problem,
)
from embeddings.services.provider_tests import try_provider
from providers import breaker, canary
from providers.addresses import PROVIDER_NAME, key_variable, origin_of
from providers.admin import WatchedAdmin
from providers.models import Breaker, ModelEntry, ProviderSetting, ProviderTest
from providers.pools import unlike
from providers.presets import presets, unreplaced
from providers.registry import registry, wires
from providers.remote import RemoteProvider


class Providers(BreakerActions):
    """A card for each provider."""

    route = "gateway/providers/"
    title = "Providers"
    icon = "cloud"
    section = "Gateway"
    needs = ("providers.view_providersetting",)
    parts: ClassVar = {"cards": "console/providers_cards.html"}

    def show(self) -> dict[str, Any]:
        user = self.request.user
        return {
            "providers": list(provider_overviews(_today())),
            "may_add": user.is_superuser,
            "may_edit": user.has_perm("providers.change_providersetting"),
        }

    @action("providers.change_providersetting")
    def test(self, request: HttpRequest) -> None:
        """Try a provider with a short text, and say what came."""
        name, by = request.POST.get("provider", ""), request.user.get_username()
        model = request.POST.get("model", "").strip() or None
        try:
            done = try_provider(name, model=model, by=by)
        except ProviderNotFound as error:
            messages.error(request, error.message)
            return
        self.note("test", f"provider {done.provider}", after=_audited(done))
        if done.ok:
            messages.success(
                request,
                f"{done.provider} works: {done.model} answered in {done.milliseconds} ms"
                f" with a vector of {done.dimensions} dimensions.",
            )
        else:
            messages.error(request, f"{done.provider} failed its test. {done.problem}")

    @action("providers.change_providersetting")
    def switch(self, request: HttpRequest) -> None:
        """Switch a provider on or off."""
        row = ProviderSetting.objects.filter(
            name=request.POST.get("provider", "")
        ).first()
        if row is None:
            messages.error(request, "There is no such provider any more.")
            return
        before = {"enabled": row.enabled}
        row.enabled = request.POST.get("enabled") == "on"
        row.save()
        self.note(
            "change", f"provider {row}", before=before, after={"enabled": row.enabled}
        )
        state = "on" if row.enabled else "off"
        messages.success(
            request,
            f"Switched {row} {state}. All processes know it within two seconds.",
        )


class Provider(Providers):
    """One provider: its models to try, the story of its breaker, its tests."""

    route = "gateway/providers/<str:name>/"
    parts: ClassVar = {}

    def show(self) -> dict[str, Any]:
        shown = super().show()
        name = self.kwargs["name"]
        found = [one for one in shown["providers"] if one.state.name == name]
        if not found:
            raise Http404
        return {
            **shown,
            "title": name,
            "one": found[0],
            "changes": breaker_story(name),
            "tests": past_tests(name),
        }


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
        if word := unreplaced(address):
            raise ValidationError(f"Put your own in place of {word}.")
        return address

    def clean_pool(self) -> str:
        """See that the row may be a member of that pool."""
        pool: str = self.cleaned_data["pool"].strip().lower()
        kind = self.cleaned_data.get("kind") or self.instance.kind
        name = self.cleaned_data.get("name") or self.instance.name
        if pool and (problem := _pool_problem(name, kind, pool)):
            raise ValidationError(problem)
        return pool

    def clean(self) -> dict[str, Any]:
        """See that the kind can do what the row asks of it."""
        cleaned = super().clean() or self.cleaned_data
        name = cleaned.get("name") or self.instance.name
        kind = cleaned.get("kind") or self.instance.kind
        plugin = registry().plugin(kind)
        if cleaned.get("wire") and (problem := _wire_problem(kind, cleaned["wire"])):
            self.add_error("wire", problem)
        if cleaned.get("batch_size") and (
            problem := _batch_problem(kind, cleaned["batch_size"])
        ):
            self.add_error("batch_size", problem)
        placeless = getattr(plugin, "default_base_url", "") is None
        placeless = kind != name and (placeless or cleaned.get("wire") == "azure")
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


def _batch_problem(kind: str, size: int) -> str | None:
    plugin = registry().plugin(kind)
    if plugin is None or not issubclass(plugin, RemoteProvider):
        return f"For {kind} give nothing."
    most = plugin.most_in_a_batch()
    return None if size <= most else f"For {kind} give at most {most}, or nothing."


def _pool_problem(name: str, kind: str, pool: str) -> str | None:
    provider, plugin = registry().get(pool), registry().plugin(kind)
    if pool == name:
        return "Name another provider, or nothing: it serves in its own place anyway."
    if provider is None or plugin is None:
        return f"There is no provider {pool}."
    if members := ", ".join(one.name for one in registry().members(name)):
        return f"It is a pool itself, with {members}: a pool is in no other."
    row = ProviderSetting.objects.filter(name=pool).exclude(pool="").first()
    if row is not None:
        return f"{pool} is in a pool itself; name that one: {row.pool}."
    return unlike(provider, plugin)


@admin.register(ProviderSetting)
class ProviderSettingAdmin(AuditedPage, WatchedAdmin):
    """Providers. What is installed is there to stay; superusers add others of the same kinds, and delete them."""

    form = ProviderSettingForm
    change_form_outer_before_template = "console/presets.html"
    fields = (
        "name",
        "kind",
        "wire",
        "enabled",
        "base_url",
        "timeout_seconds",
        "batch_size",
        "pool",
        "pool_models",
        "setup",
        "key",
    )
    list_display = (
        "name",
        "kind",
        "pool",
        "enabled",
        "setup",
        "key",
        "base_url",
        "timeout_seconds",
        "batch_size",
    )
    list_filter = ("enabled", "kind")
    formfield_overrides: ClassVar = {URLField: {"assume_scheme": "https"}}

    def get_form(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        form = super().get_form(request, *args, **options)
        form.by_superuser = request.user.is_superuser  # the class is this request's
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Fill in what a service has that somebody chose above the form."""
        preset = presets().get(request.GET.get("preset", ""))
        if preset is None:
            return {}
        filled = ("name", "kind", "wire", "base_url", "batch_size")
        return {name: getattr(preset, name) for name in filled}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Offer the services that are known, for a new row."""
        chosen = presets().get(request.GET.get("preset", ""))
        context |= {"presets": presets().values(), "chosen": chosen}
        shown: HttpResponse = super().render_change_form(
            request, context, *args, **options
        )
        return shown

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what only a row that is there has."""
        return self.fields if obj else self.fields[:-2]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Keep name and kind as they were added: usage, jobs and vectors are known by them."""
        if obj is None:
            return []
        # Both say what becomes of texts: a member's address is sent those of its pool.
        others = [] if request.user.is_superuser else ["wire", "pool", "pool_models"]
        return ["name", "kind", "setup", "key", *others]

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
        if {"pool", "pool_models"} & {*form.changed_data}:
            canary.leave_pools(obj.name)
        if not change:
            embedding_cache().clear()

    def delete_model(self, request: HttpRequest, obj: ProviderSetting) -> None:
        self.note(request, "delete", obj, before=self.audit_state(obj))
        _delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.delete_model(request, row)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Name what goes with a provider: models and breaker are rows of its name, not of a foreign key."""
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        names = [row.name for row in objs]
        models = ModelEntry.objects.filter(provider__in=names)
        breakers = Breaker.objects.filter(provider__in=names)
        for row in (*models, *breakers):
            deleted.append(f"{capfirst(row._meta.verbose_name)}: {row}")
        for row in ProviderSetting.objects.filter(pool__in=names).exclude(
            name__in=names
        ):
            deleted.append(f"Place in the pool of {row.pool}: {row}")
        more = {
            str(ModelEntry._meta.verbose_name_plural): models.count(),
            str(Breaker._meta.verbose_name_plural): breakers.count(),
        }
        counts = {**counts, **{kind: n for kind, n in more.items() if n}}
        return deleted, counts, lacking, protected

    def response_add(self, request: HttpRequest, obj: Any, *args: Any) -> HttpResponse:
        return self._back(super().response_add(request, obj, *args))

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self._back(super().response_change(request, obj))

    def response_delete(self, request: HttpRequest, *args: Any) -> HttpResponse:
        return self._back(super().response_delete(request, *args))

    @staticmethod
    def _back(response: HttpResponse) -> HttpResponse:
        """Return to the page of cards rather than to the list."""
        listed = reverse("admin:providers_providersetting_changelist")
        if response.headers.get("Location", "").partition("?")[0] == listed:
            return HttpResponseRedirect(reverse("console:providers"))
        return response

    @admin.display(description="set-up")
    def setup(self, row: ProviderSetting) -> str:
        """Say what is missing."""
        return set_up_problem(row) or ("ready" if row.enabled else "switched off")

    @admin.display(description="key")
    def key(self, row: ProviderSetting) -> str:
        return key_shown(row.name)


def _delete(row: ProviderSetting) -> None:
    """Delete a row, its breaker and its models. Its usage stays, and what its vectors were like.

    The members of its pool are on their own from then on.
    """
    breaker.forget(row.name)
    ProviderSetting.objects.filter(pool=row.name).update(pool="")
    canary.leave_pools(row.name)
    ModelEntry.objects.filter(provider=row.name).delete()
    row.delete()


def _today() -> datetime:
    """Return when today began where the reader is."""
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)


def _audited(test: ProviderTest) -> dict[str, Any]:
    names = ("model", "ok", "milliseconds", "dimensions", "problem")
    return {name: getattr(test, name) for name in names}
