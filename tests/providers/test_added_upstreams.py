"""Upstreams that operators added: rows of a plug-in's kind, under names of their own."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from providers.base import ModelSpec, Provider
from providers.canary import TEXTS, canary
from providers.models import Breaker, ModelEntry, ProviderSetting, RemoteSpace
from providers.operator_settings import reader
from providers.registry import registry
from providers.remote import Batch
from providers.seeding import seed_registry
from tests.fakes import MINILM, FakeOpenAI

pytestmark = pytest.mark.django_db

SMALL = "text-embedding-3-small"
ELSEWHERE = "https://gateway.example/v1"


class Acme(FakeOpenAI):
    name = "acme-ai"

    def __init__(self, options):
        super().__init__()
        self.options = options

    @classmethod
    def from_settings(cls, options):
        if options.get("base_url") == "https://broken.example":
            raise RuntimeError("broken")
        return cls(options)


@pytest.fixture(autouse=True)
def seeded():
    seed_registry(allowed_providers=[], allowed_models=[])


@pytest.fixture
def environment(settings):
    """Return a function that sets a provider's options, as the environment would at a start."""

    def change(name, **options):
        before = settings.PROVIDERS.get(name, {})
        settings.PROVIDERS = {**settings.PROVIDERS, name: {**before, **options}}
        registry.cache_clear()

    return change


@pytest.fixture
def keys(environment):
    """Return a function that gives providers their keys."""

    def give(**named):
        for name, key in named.items():
            environment(name, api_key=key)

    return give


def known(name: str) -> Provider:
    reader.cache_clear()
    provider = registry().get(name)
    assert provider is not None
    return provider


def add(name: str, kind: str = "openai", **fields: Any) -> Any:
    """Add a row, counting at once, and return its provider."""
    ProviderSetting.objects.create(name=name, kind=kind, **fields)
    return known(name)


def space(provider: Provider, model: str = SMALL) -> str:
    spec = registry().resolve(provider, model)
    assert spec is not None
    return spec.vector_space


def test_two_of_one_kind_have_their_own_names_and_keys(keys):
    keys(openai="key-of-openai", eu="key-of-eu", my_us="key-of-us")
    eu, us = add("eu"), add("my-us")
    openai: Any = known("openai")
    assert (eu.name, us.name, openai.name) == ("eu", "my-us", "openai")
    assert [p.headers()["authorization"] for p in (eu, us, openai)] == [
        "Bearer key-of-eu",
        "Bearer key-of-us",
        "Bearer key-of-openai",
    ]
    assert registry().names()[-2:] == ("eu", "my-us")


def test_missing_key_is_named_by_the_row_s_own_variable():
    problem = add("my-eu").configuration_problem()
    assert problem == (
        "UPSTREAM_MY_EU_API_KEY is not set; keys are read when the server starts"
    )


def test_row_without_an_address_is_at_the_kind_s_own_and_not_at_the_environment_s(
    environment,
):
    environment("openai", base_url=ELSEWHERE, api_key="k")
    eu = add("eu")
    assert eu.base_url == "https://api.openai.com/v1"
    assert eu.api_key == ""
    assert known("openai").address() == ELSEWHERE


def test_missing_address_is_named_by_the_row():
    assert add("gpu", "local_api").configuration_problem() == (
        "The address of gpu is not set"
    )


@pytest.mark.parametrize("address", ["", "https://api.openai.com/v1/"])
def test_at_the_kind_s_own_address_models_are_of_the_kind_s_spaces(address):
    assert space(add("eu", base_url=address)) == f"openai/{SMALL}"


def test_at_another_address_models_are_of_spaces_of_their_own():
    eu = add("eu", base_url=ELSEWHERE)
    assert {spec.vector_space for spec in registry().models(eu)} == {
        f"eu:{spec.name}" for spec in eu.models()
    }
    assert space(known("openai")) == f"openai/{SMALL}"


def test_models_that_share_a_space_at_their_maker_do_not_elsewhere():
    gateway = add("gateway", "cohere", base_url=ELSEWHERE)
    pro, fast = (space(gateway, f"embed-v5.0-{name}") for name in ("pro", "fast"))
    assert (pro, fast) == ("gateway:embed-v5.0-pro", "gateway:embed-v5.0-fast")


def test_alias_is_of_the_row_s_space_too():
    row = add("eu", "mistral", base_url=ELSEWHERE)
    assert space(row, "mistral-embed-2312") == "eu:mistral-embed"


def test_model_that_is_passed_on_is_of_the_row_s_space():
    assert space(add("gpu", "local_api", base_url=ELSEWHERE), "e5") == "gpu:e5"


def test_row_s_spaces_are_never_those_of_a_model_of_the_hub(fakes):
    row = add("sentence-transformers", "local_api", base_url=ELSEWHERE)
    assert space(known("huggingface"), MINILM) == MINILM
    assert space(row, MINILM.partition("/")[2]) != MINILM


def test_seeded_rows_keep_their_spaces_wherever_they_are():
    ProviderSetting.objects.update(base_url=ELSEWHERE)
    assert space(known("openai")) == f"openai/{SMALL}"
    assert space(known("local_api"), "e5") == "local_api/e5"


def test_operator_s_word_makes_two_spaces_one():
    eu = add("eu", base_url=ELSEWHERE)
    ModelEntry.objects.create(
        provider="eu", name=SMALL, dimensions=1536, vector_space=f"openai/{SMALL}"
    )
    reader.cache_clear()
    assert space(eu) == f"openai/{SMALL}"


def test_seeding_says_nothing_of_an_added_row_s_models():
    eu = add("eu")
    seed_registry(allowed_providers=[], allowed_models=[])
    assert not ModelEntry.objects.filter(provider="eu").exists()
    ProviderSetting.objects.filter(name="eu").update(base_url=ELSEWHERE)
    moved = known("eu")
    assert moved is not eu
    assert space(moved) == f"eu:{SMALL}"


@pytest.mark.parametrize(
    ("wire", "path"),
    [
        ("", "/v1/embeddings"),
        ("openai-exact", "/embeddings"),
        ("tei", "/embed"),
        ("ollama", "/api/embed"),
    ],
)
def test_each_row_speaks_its_own_wire(environment, wire, path):
    environment("local_api", kind="ollama")
    gpu = add("gpu", "local_api", base_url="http://gpu.example", wire=wire)
    spec = registry().resolve(gpu, "m")
    assert spec is not None
    batch = Batch(model=spec, texts=["a"], dimensions=None, input_type="document")
    assert gpu.build(batch).path == path


def test_change_of_anything_else_keeps_the_provider_and_its_connections():
    eu = add("eu")
    ProviderSetting.objects.filter(name="eu").update(enabled=False)
    ModelEntry.objects.filter(provider="openai").update(max_tokens=5)
    assert known("eu") is eu


def test_deleted_row_is_no_provider():
    add("eu")
    ProviderSetting.objects.get(name="eu").delete()
    reader.cache_clear()
    assert registry().get("eu") is None
    assert "eu" not in registry().names()


def test_row_of_a_kind_that_is_not_installed_is_listed_with_its_problem():
    gone = add("gone", "no-such-plug-in")
    assert gone.name == "gone"
    assert "no-such-plug-in is not installed" in gone.configuration_problem()
    assert gone in registry().all()
    assert registry().kind("gone") == "no-such-plug-in"
    assert space(gone, "any:model") == "gone:any:model"


@pytest.fixture
def acme(monkeypatch, settings):
    """Install a plug-in of another package."""
    point = EntryPoint(name="acme-ai", value=f"{__name__}:Acme", group="g")
    monkeypatch.setattr("providers.registry.entry_points", lambda group: [point])
    registry.cache_clear()


def test_installed_plug_in_is_a_kind_as_it_stands(acme, keys):
    keys(acme_ai="key-of-acme", own="key-of-own")
    row = add("own", "acme-ai", base_url=ELSEWHERE, timeout_seconds=4)
    assert (row.name, known("acme-ai").name, Acme.name) == ("own", "acme-ai", "acme-ai")
    assert row.options["api_key"] == "key-of-own"
    assert (row.options["base_url"], row.options["timeout_seconds"]) == (ELSEWHERE, 4)
    assert known("acme-ai").options["api_key"] == "key-of-acme"  # type: ignore[attr-defined]
    assert space(row) == f"own:{SMALL}"
    assert space(known("acme-ai")) == f"openai/{SMALL}"
    assert "acme-ai" in registry().addable()
    assert "huggingface" not in registry().addable()


def test_row_that_its_plug_in_cannot_be_built_of_harms_no_other(acme, caplog):
    broken = add("bad", "acme-ai", base_url="https://broken.example")
    assert "it failed" in broken.configuration_problem()
    assert "provider_not_built" in caplog.text
    assert isinstance(known("acme-ai"), Acme)
    ProviderSetting.objects.filter(name="bad").update(base_url=ELSEWHERE)
    assert isinstance(known("bad"), Acme)


def test_plug_in_that_is_installed_later_does_not_take_a_row_s_name(acme):
    row = add("acme-ai", "local_api", base_url=ELSEWHERE)
    assert space(row, "m") == "acme-ai:m"


def test_seeding_makes_rows_and_breakers_of_the_kinds():
    rows = ProviderSetting.objects.values_list("name", "kind")
    assert sorted(rows) == sorted((name, name) for name in registry().installed())
    assert Breaker.objects.count() == len(rows)


@pytest.mark.django_db(transaction=True)  # SQLite remakes the table outside of one
def test_migration_keeps_what_operators_changed():
    call_command("migrate", "providers", "0003", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE providers_providersetting SET enabled = %s, base_url = %s, timeout_seconds = 7.5"
            " WHERE name = 'cohere'",
            [False, ELSEWHERE],
        )
    call_command("migrate", "providers", verbosity=0)
    row = ProviderSetting.objects.get(name="cohere")
    assert (row.kind, row.wire) == ("cohere", "")
    assert (row.enabled, row.base_url, row.timeout_seconds) == (False, ELSEWHERE, 7.5)
    assert set(ProviderSetting.objects.values_list("kind", flat=True)) == {
        *registry().installed()
    }
    call_command("migrate", "providers", "0003", verbosity=0)
    call_command("migrate", "providers", verbosity=0)


def test_spaces_of_two_rows_are_watched_apart():
    eu, us = FakeOpenAI(), FakeOpenAI()
    eu.name, us.name = "eu", "us"
    us.variant = "another model: "
    spec: ModelSpec = eu.specs[0]
    for provider in (eu, us):
        verdict = canary().check(provider, spec)
        assert verdict is not None
        assert not verdict.drifted
    assert eu.calls == us.calls == [list(TEXTS)]
    rows = RemoteSpace.objects.values_list("provider", flat=True)
    assert sorted(rows) == ["eu", "us"]
