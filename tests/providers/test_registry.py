from importlib.metadata import EntryPoint

import pytest

from providers.base import ModelSpec, Provider
from providers.models import ModelEntry, ProviderSetting
from providers.operator_settings import reader
from providers.registry import Registry, registry
from providers.seeding import seed_registry
from tests.fakes import FakeLocal

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


def test_a_new_address_from_the_console_builds_the_provider_anew():
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
    assert registry().resolve(openai, "text-embedding-3-small").max_tokens == 7


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
    assert registry().listed(openai, "new").dimensions == 4


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
    assert registry().listed(openai, "ada").name == "ada"
    own = ModelSpec(name="ada", dimensions=4, max_tokens=None, vector_space="own")
    openai.models = lambda: [other, own]
    assert Provider.resolve(openai, "ada") is own
