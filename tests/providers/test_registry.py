from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
from django.core.management import call_command

from providers.base import ModelSpec, Provider
from providers.models import ModelEntry, ProviderSetting
from providers.operator_settings import reader
from providers.registry import Registry, registry
from providers.seeding import seed_registry
from tests.fakes import MINILM, FakeLocal

pytestmark = pytest.mark.django_db


class Acme(FakeLocal):
    name = "acme"


class Broken:
    pass


def plugins(monkeypatch, **named):
    points = [
        EntryPoint(name=name, value=value, group="g") for name, value in named.items()
    ]
    monkeypatch.setattr("providers.registry.entry_points", lambda group: points)
    return Registry({})


def test_entry_points_bring_providers(monkeypatch):
    found = plugins(monkeypatch, acme="tests.providers.test_registry:Acme")
    assert "acme" in found.names()
    assert isinstance(found.get("acme"), Provider)
    assert found.get("acme") is found.get("acme")


@pytest.mark.parametrize(
    "value",
    [
        "no.such.module:X",
        "tests.providers.test_registry:Nothing",
        "tests.providers.test_registry:Broken",
        "tests.providers.test_registry:Acme",  # it has another name
    ],
)
def test_broken_plugin_is_logged_and_left_out(monkeypatch, caplog, value):
    found = plugins(monkeypatch, broken=value)
    assert found.get("broken") is None
    assert "broken" not in found.names()
    assert "provider_plugin_skipped" in caplog.text


def test_plugin_cannot_take_a_built_in_s_name(monkeypatch, caplog):
    found = plugins(monkeypatch, openai="tests.providers.test_registry:Acme")
    assert type(found.get("openai")).__name__ == "OpenAIProvider"
    assert "provider_plugin_skipped" in caplog.text


def refreshed():
    reader.cache_clear()
    return registry()


def spec_of(provider: Provider, name: str) -> ModelSpec:
    spec = registry().resolve(provider, name)
    assert spec is not None
    return spec


def listed(provider: Provider, name: str) -> ModelSpec:
    spec = registry().listed(provider, name)
    assert spec is not None
    return spec


def test_a_new_address_from_the_console_builds_the_provider_again():
    seed_registry(allowed_providers=[], allowed_models=[])
    before = refreshed().get("openai")
    ProviderSetting.objects.filter(name="openai").update(
        base_url="http://127.0.0.1:9/v1"
    )
    after = refreshed().get("openai")
    assert after is not before
    assert after.base_url == "http://127.0.0.1:9/v1"
    assert refreshed().get("openai") is after


def test_operator_s_figures_replace_a_remote_model_s(fakes):
    seed_registry(allowed_providers=[], allowed_models=[])
    ModelEntry.objects.filter(provider="openai", name="text-embedding-3-small").update(
        max_tokens=7
    )
    openai = refreshed().get("openai")
    assert spec_of(openai, "text-embedding-3-small").max_tokens == 7


def test_a_local_model_s_own_files_have_the_last_word(fakes):
    seed_registry(allowed_providers=[], allowed_models=[])
    ModelEntry.objects.filter(provider="onnx").update(
        dimensions=99, vector_space="wrong"
    )
    onnx = refreshed().get("onnx")
    assert {spec.dimensions for spec in registry().models(onnx)} == {8}


def test_models_that_the_operator_adds_are_listed(fakes):
    seed_registry(allowed_providers=[], allowed_models=[])
    ModelEntry.objects.create(
        provider="openai", name="new", dimensions=4, vector_space="openai/new"
    )
    openai = refreshed().get("openai")
    assert listed(openai, "new").dimensions == 4


def test_a_model_s_name_wins_over_the_alias_of_another(fakes):
    seed_registry(allowed_providers=[], allowed_models=[])
    ModelEntry.objects.create(
        provider="openai", name="ada", dimensions=4, vector_space="openai/ada"
    )
    openai = refreshed().get("openai")
    other = ModelSpec(
        name="text-embedding-ada-002",
        dimensions=8,
        max_tokens=None,
        vector_space="openai/ada-002",
        aliases=("ada",),
    )
    openai.models = lambda: [other]
    assert listed(openai, "ada").name == "ada"
    own = ModelSpec(name="ada", dimensions=4, max_tokens=None, vector_space="own")
    openai.models = lambda: [other, own]
    assert Provider.resolve(openai, "ada") is own


def set_prompts(provider, name, **prompts):
    seed_registry(allowed_providers=[], allowed_models=[])
    ModelEntry.objects.filter(provider=provider, name=name).update(**prompts)
    return refreshed().get(provider)


def test_seeding_leaves_a_model_s_own_prompts_to_the_model(fakes):
    seed_registry(allowed_providers=[], allowed_models=[])
    entry = ModelEntry.objects.get(provider="onnx", name="prompted")
    assert (entry.query_prompt, entry.document_prompt) == (None, None)
    onnx = refreshed().get("onnx")
    assert registry().resolve(onnx, "prompted") == onnx.resolve("prompted")


@pytest.mark.parametrize(
    ("provider", "name"),
    [("onnx", MINILM), ("openai", "text-embedding-3-small")],
)
def test_operator_s_prompts_are_the_model_s_until_they_are_taken_back(
    fakes, provider, name
):
    chosen = set_prompts(provider, name)
    before = spec_of(chosen, name)
    set_prompts(provider, name, query_prompt="query: ")
    changed = spec_of(chosen, name)
    assert (changed.query_prompt, changed.document_prompt) == ("query: ", "")
    assert changed.revision != before.revision
    assert changed.vector_space.startswith(f"{before.vector_space}#prompt-")
    assert changed.method == before.method
    set_prompts(provider, name, query_prompt=None)
    assert registry().resolve(chosen, name) == before


def test_prompts_of_a_plug_in_that_puts_none_before_texts_change_nothing(
    fakes, monkeypatch
):
    before = registry().resolve(fakes["onnx"], MINILM)
    monkeypatch.setattr(type(fakes["onnx"]), "takes_prompts", False)
    onnx = set_prompts("onnx", MINILM, query_prompt="query: ")
    assert registry().resolve(onnx, MINILM) == before


def test_empty_prompt_keeps_the_model_s_own_away(fakes):
    onnx = set_prompts("onnx", "prompted", document_prompt="")
    spec = spec_of(onnx, "prompted")
    assert (spec.query_prompt, spec.document_prompt) == ("search for: ", "")


def test_alias_has_the_operator_s_prompts_too(fakes):
    onnx = set_prompts("onnx", MINILM, document_prompt="text: ")
    assert spec_of(onnx, "all-MiniLM-L6-v2").document_prompt == "text: "


def test_model_that_the_operator_added_has_its_prompts(fakes):
    seed_registry(allowed_providers=[], allowed_models=[])
    ModelEntry.objects.create(
        provider="openai", name="new", vector_space="new", query_prompt="query: "
    )
    spec = listed(refreshed().get("openai"), "new")
    assert spec.query_prompt == "query: "
    assert spec.vector_space.startswith("new#prompt-")


def test_model_that_came_since_the_listing_has_the_operator_s_prompts(
    fakes, monkeypatch
):
    seed_registry(allowed_providers=[], allowed_models=[])
    ModelEntry.objects.create(
        provider="onnx", name="later", vector_space="later", document_prompt="text: "
    )
    onnx = refreshed().get("onnx")
    assert registry().resolve(onnx, "later") is None
    later = replace(onnx.specs[0], name="later", aliases=())
    monkeypatch.setattr(type(onnx), "specs", (*onnx.specs, later))
    assert spec_of(onnx, "later").document_prompt == "text: "


def test_prompts_of_a_model_that_was_prepared_a_moment_ago_are_known(
    fakes, monkeypatch
):
    onnx = refreshed().get("onnx")
    prepared = onnx.resolve("prompted")
    catalogued = replace(prepared, method=None, query_prompt="", document_prompt="")
    monkeypatch.setattr(type(onnx), "specs", (catalogued,))
    assert spec_of(onnx, "prompted").query_prompt == ""
    monkeypatch.setattr(type(onnx), "specs", (prepared,))
    assert spec_of(onnx, "prompted").query_prompt == "search for: "


@pytest.mark.django_db(transaction=True)  # SQLite remakes the table outside of one
def test_prompts_come_and_go_with_their_migration():
    entry = ModelEntry.objects.create(provider="p", name="m", vector_space="s")
    call_command("migrate", "providers", "0001", verbosity=0)
    call_command("migrate", "providers", verbosity=0)  # to the newest of all
    entry.refresh_from_db()
    assert (entry.query_prompt, entry.document_prompt) == (None, None)
