"""The console's providers: superusers add upstreams, change where they are, and delete them again."""

import re
from datetime import UTC, datetime

import numpy as np
import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from embeddings.console.providers import NAME_RULE
from embeddings.models import AuditEntry, UsageHour
from embeddings.services.cache.cache import embedding_cache
from providers.built_in import built_in
from providers.canary import CHECK_EVERY
from providers.models import Breaker, ModelEntry, ProviderSetting, RemoteSpace, Revision
from providers.operator_settings import reader
from providers.plugins.openai import OpenAIProvider
from providers.presets import presets
from providers.registry import BUILT_IN, registry
from providers.seeding import seed_registry

VECTORS = np.ones((1, 2), np.float32)
ADDRESS = "https://gateway.example/v1"
FIELDS = {"name": "eu", "kind": "openai", "enabled": "on", "base_url": ADDRESS}


@pytest.fixture(autouse=True)
def seeded(db, fakes, monkeypatch):
    """Rows of what is installed, of which OpenAI is no fake here."""
    (place,) = (one.place for one in built_in() if one.name == "openai")
    monkeypatch.setitem(BUILT_IN, "openai", place)
    registry.cache_clear()
    seed_registry(allowed_providers=[], allowed_models=[])
    reader.cache_clear()


@pytest.fixture
def client_as(make_user):
    """Return a function that logs somebody in to the console, with every right to providers there is."""

    def log_in(**fields):
        user = make_user("operator", is_staff=True, **fields)
        rights = Permission.objects.filter(codename__endswith="_providersetting")
        user.user_permissions.add(*rights)
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def console(client_as):
    return client_as(is_superuser=True)


@pytest.fixture
def clerk(client_as):
    return client_as()


@pytest.fixture
def eu():
    ModelEntry.objects.create(provider="eu", name="m", vector_space="eu/m")
    Breaker.objects.create(provider="eu", state="open")
    row = ProviderSetting.objects.create(name="eu", kind="openai", base_url=ADDRESS)
    reader.cache_clear()
    return row


def url(page, *args):
    return reverse(f"admin:providers_providersetting_{page}", args=args)


def errors(response):
    """Return the refused form's errors; none if it was saved."""
    if response.status_code == 302:
        return {}
    return dict(response.context["adminform"].form.errors)


def entries():
    rows = AuditEntry.objects.order_by("pk")
    return [(row.actor, row.action, row.target) for row in rows]


def test_added_upstream_is_a_provider_and_audited(console):
    before = Revision.objects.get().number
    assert not errors(console.post(url("add"), {**FIELDS, "kind": "mistral"}))
    reader.cache_clear()
    provider = registry().get("eu")
    assert provider is not None
    assert provider.address() == ADDRESS
    assert Revision.objects.get().number > before
    assert Breaker.objects.filter(provider="eu", state="closed").exists()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target) == ("add", "provider eu")
    assert entry.after is not None
    assert (entry.after["kind"], entry.after["base_url"]) == ("mistral", ADDRESS)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("name", {"name": "openai"}),
        ("name", {"name": "EU"}),
        ("name", {"name": "e:u"}),
        ("name", {"name": "-eu"}),
        ("name", {"name": "local-api"}),  # as local_api in the environment
        ("kind", {"kind": "onnx"}),
        ("kind", {"kind": "no-such-plug-in"}),
        ("wire", {"wire": "tei"}),
        ("wire", {"kind": "local_api", "wire": "smoke-signals"}),
        ("base_url", {"kind": "local_api", "base_url": ""}),
        ("base_url", {"wire": "azure", "base_url": ""}),
        ("base_url", {"base_url": "https://RESOURCE.openai.azure.com/openai/v1"}),
        ("batch_size", {"batch_size": "0"}),
        ("batch_size", {"batch_size": "2049"}),
        ("batch_size", {"kind": "cohere", "batch_size": "97"}),
        ("batch_size", {"batch_size": "many"}),
        ("pool_models", {"pool_models": "[1]"}),
        ("pool_models", {"pool_models": '{"a": 1}'}),
        ("pool_models", {"pool_models": "{"}),
        ("pool", {"pool": "nobody"}),
        ("pool", {"pool": "eu"}),
        ("pool", {"pool": "onnx"}),
        ("pool", {"pool": "voyage"}),
        ("pool", {"pool": "not a name"}),
    ],
    ids=str,
)
def test_senseless_upstream_is_a_form_error(console, field, fields):
    assert [*errors(console.post(url("add"), {**FIELDS, **fields}))] == [field]
    assert not ProviderSetting.objects.filter(base_url=ADDRESS).exists()
    assert entries() == []


def test_name_that_another_row_has_in_the_environment_is_a_form_error(console, eu):
    ProviderSetting.objects.create(name="my-eu", kind="openai")
    reader.cache_clear()
    found = errors(console.post(url("add"), {**FIELDS, "name": "my_eu"}))
    assert "UPSTREAM_MY_EU_API_KEY" in found["name"][0]


def test_server_of_one_s_own_has_its_wire(console):
    fields = {**FIELDS, "kind": "local_api", "wire": "tei"}
    assert not errors(console.post(url("add"), fields))
    assert ProviderSetting.objects.get(name="eu").wire == "tei"


def test_only_superusers_add_and_delete(clerk, eu):
    assert clerk.get(url("add")).status_code == 403
    assert clerk.post(url("add"), FIELDS).status_code == 403
    assert clerk.post(url("delete", eu.pk), {"post": "yes"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [eu.pk], "post": "yes"}
    clerk.post(url("changelist"), bulk)
    assert ProviderSetting.objects.filter(name="eu").exists()


def test_clerk_changes_neither_address_nor_wire_nor_kind_of_an_added_one(clerk):
    row = ProviderSetting.objects.create(
        name="gpu", kind="local_api", base_url=ADDRESS, wire="tei"
    )
    reader.cache_clear()
    fields = {"base_url": ADDRESS, "wire": "openai", "kind": "openai", "name": "x"}
    assert not errors(clerk.post(url("change", row.pk), fields))
    moved = errors(clerk.post(url("change", row.pk), {"base_url": "https://e.example"}))
    assert "UPSTREAM_ALLOWED_HOSTS" in moved["base_url"][0]
    row.refresh_from_db()
    assert (row.name, row.kind, row.wire) == ("gpu", "local_api", "tei")
    assert (row.base_url, row.enabled) == (ADDRESS, False)


def test_name_and_kind_stay_as_they_were_added(console, eu):
    fields = {**FIELDS, "name": "x", "kind": "cohere", "base_url": "https://b.example"}
    assert not errors(console.post(url("change", eu.pk), fields))
    eu.refresh_from_db()
    assert (eu.name, eu.kind, eu.base_url) == ("eu", "openai", "https://b.example")


def test_deleted_upstream_takes_breaker_and_models_and_leaves_its_usage(console, eu):
    UsageHour.objects.create(
        hour="2026-01-01T00:00:00Z", caller="c", provider="eu", model="m", requests=1
    )
    RemoteSpace.objects.create(provider="eu", model="m", address="a", dimensions=1)
    console.post(url("delete", eu.pk), {"post": "yes"})
    for model in (Breaker, ModelEntry):
        assert not model.objects.filter(provider="eu").exists()
        assert model.objects.filter(provider="openai").exists()
    assert UsageHour.objects.filter(provider="eu").exists()
    assert RemoteSpace.objects.filter(provider="eu").exists()
    assert entries() == [("operator", "delete", "provider eu")]


def test_upstreams_are_deleted_together_each_with_its_own(console, eu):
    bulk = {"action": "delete_selected", "_selected_action": [eu.pk], "post": "yes"}
    console.post(url("changelist"), bulk)
    assert not ProviderSetting.objects.filter(name="eu").exists()
    assert not Breaker.objects.filter(provider="eu").exists()
    assert entries() == [("operator", "delete", "provider eu")]


def test_what_is_installed_cannot_be_deleted(console, eu):
    row = ProviderSetting.objects.get(name="openai")
    assert console.post(url("delete", row.pk), {"post": "yes"}).status_code == 403
    chosen = [row.pk, eu.pk]
    bulk = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    console.post(url("changelist"), bulk)
    assert ProviderSetting.objects.filter(name__in=["openai", "eu"]).count() == 2


def test_row_of_a_plug_in_that_is_gone_is_shown_with_its_problem_and_can_be_deleted(
    console,
):
    row = ProviderSetting.objects.create(name="gone", kind="gone")
    reader.cache_clear()
    page = console.get(url("changelist")).content.decode()
    assert "The plug-in gone is not installed" in page
    assert console.get(url("change", row.pk)).status_code == 200
    console.post(url("delete", row.pk), {"post": "yes"})
    assert not ProviderSetting.objects.filter(name="gone").exists()


def test_key_s_variable_is_shown_and_no_more_of_it_than_four_characters(
    console, eu, settings
):
    settings.PROVIDERS = {
        **settings.PROVIDERS,
        "eu": {"api_key": "sk-0123456789abcdefWXYZ"},
    }
    registry.cache_clear()
    page = console.get(url("changelist")).content.decode()
    assert "UPSTREAM_EU_API_KEY: …WXYZ" in page
    assert "COHERE_API_KEY: not set" in page
    assert not re.search("sk-0123|cdefWXYZ", page)


def test_upstream_of_a_deleted_one_s_name_has_nothing_of_its_vectors(console):
    checked_at = datetime(2026, 1, 1, tzinfo=UTC)
    old = RemoteSpace.objects.create(
        provider="eu", model="m", address="a", dimensions=1, checked_at=checked_at
    )
    embedding_cache().get_or_compute(
        [b"k" * 32], lambda indices: VECTORS, timeout_seconds=1
    )
    console.post(url("add"), FIELDS)
    old.refresh_from_db()
    assert old.checked_at is not None
    assert old.checked_at < checked_at - CHECK_EVERY
    assert embedding_cache().stats().size == 0


def test_server_that_speaks_otherwise_is_checked_again(console):
    row = ProviderSetting.objects.create(name="gpu", kind="local_api", base_url=ADDRESS)
    checked_at = datetime(2026, 1, 1, tzinfo=UTC)
    space = RemoteSpace.objects.create(
        provider="gpu", model="m", address="a", dimensions=1, checked_at=checked_at
    )
    fields = {"base_url": ADDRESS, "enabled": "on"}
    for wire, again in (("", False), ("tei", True)):
        console.post(url("change", row.pk), {**fields, "wire": wire})
        space.refresh_from_db()
        assert (space.checked_at != checked_at) is again


def test_row_that_this_process_has_not_read_is_not_called_broken(console):
    registry().get("eu")  # the rows are remembered for two seconds from here
    ProviderSetting.objects.create(name="eu", kind="openai", base_url=ADDRESS)
    listed = console.get(url("changelist")).content.decode()
    assert "Just added" in listed
    assert "not installed" not in listed


def test_wrong_name_is_refused_in_words_of_its_own(console):
    refused = console.post(url("add"), {**FIELDS, "name": "Team TEI"})
    assert errors(refused) == {"name": [NAME_RULE]}


def test_batch_size_and_pool_of_a_row_are_its_provider_s(console):
    fields = {"batch_size": "64", "pool": "OpenAI"}
    assert not errors(console.post(url("add"), {**FIELDS, **fields}))
    reader.cache_clear()
    assert registry().pool_of("eu") == "openai"
    assert [member.name for member in registry().members("openai")] == ["eu"]
    provider = registry().get("eu")
    assert isinstance(provider, OpenAIProvider)
    assert provider._batch_size == 64


def test_pool_of_a_member_is_named_instead(console, eu):
    ProviderSetting.objects.filter(name="eu").update(pool="openai")
    reader.cache_clear()
    (found,) = errors(
        console.post(url("add"), {**FIELDS, "name": "us", "pool": "eu"})
    ).values()
    assert found == ["eu is in a pool itself; name that one: openai."]


def test_pool_with_members_joins_no_other(console, eu):
    ProviderSetting.objects.create(name="us", kind="openai", pool="eu")
    reader.cache_clear()
    changed = {**FIELDS, "pool": "openai"}
    (found,) = errors(console.post(url("change", eu.pk), changed)).values()
    assert found == ["It is a pool itself, with us: a pool is in no other."]


def test_only_superusers_say_in_whose_pool_a_row_is(clerk, eu):
    clerk.post(url("change", eu.pk), {**FIELDS, "pool": "openai"})
    assert ProviderSetting.objects.get(name="eu").pool == ""


def admission(**fields):
    return RemoteSpace.objects.create(provider="eu", model="m", pool="openai", **fields)


def test_row_that_leaves_its_pool_is_compared_again_if_it_comes_back(console, eu):
    ProviderSetting.objects.filter(name="eu").update(pool="openai")
    admission()
    assert not errors(console.post(url("change", eu.pk), {**FIELDS, "pool": ""}))
    assert not RemoteSpace.objects.filter(pool="openai").exists()


def test_deleted_provider_leaves_its_members_on_their_own(console, eu):
    ProviderSetting.objects.create(name="us", kind="openai", pool="eu")
    page = console.get(url("delete", eu.pk)).content.decode()
    assert "Place in the pool of eu: us" in page
    console.post(url("delete", eu.pk), {"post": "yes"})
    assert ProviderSetting.objects.get(name="us").pool == ""


@pytest.mark.parametrize("name", presets())
def test_known_service_fills_in_the_form(console, name):
    preset = presets()[name]
    page = console.get(url("add"), {"preset": name})
    shown = page.context["adminform"].form
    given = {field: shown[field].value() for field in shown.fields}
    assert escape(preset.note) in page.content.decode()
    address = preset.base_url.replace(preset.placeholder or "-", "mine-1")
    fields = {k: v for k, v in given.items() if v not in (None, False)}
    assert not errors(console.post(url("add"), fields | {"base_url": address}))
    row = ProviderSetting.objects.get(name=name)
    assert (row.kind, row.wire, row.batch_size) == (
        preset.kind,
        preset.wire,
        preset.batch_size,
    )
    reader.cache_clear()
    provider = registry().get(name)
    assert provider is not None
    assert provider.address() == address


def test_unknown_service_fills_in_nothing(console):
    page = console.get(url("add"), {"preset": "<script>"})
    assert page.status_code == 200
    assert not page.context["adminform"].form["base_url"].value()
