import pytest
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection

from providers.models import AllowlistEntry, ModelEntry, ProviderSetting, Revision
from providers.operator_settings import OperatorSettings, OperatorSettingsReader
from providers.registry import registry
from providers.seeding import seed_registry

pytestmark = pytest.mark.django_db


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reader(clock):
    return OperatorSettingsReader(timer=clock)


def seed(providers=(), models=()):
    seed_registry(allowed_providers=providers, allowed_models=models)


def test_before_the_first_start_the_environment_s_allowlists_hold(reader, settings):
    settings.ALLOWED_EMBEDDING_PROVIDERS = ("ONNX",)
    fresh = OperatorSettingsReader()
    assert fresh.current().allows_provider("onnx")
    assert not fresh.current().allows_provider("openai")


def test_first_start_seeds_all_that_is_installed(fakes, reader):
    seed(providers=["Onnx"], models=["text-*"])
    current = reader.current()
    assert current.allowed_providers == ("onnx",)
    assert current.allowed_models == ("text-*",)
    assert set(current.providers) == set(registry().names())
    entry = ModelEntry.objects.get(name="text-embedding-3-small")
    assert entry.native_dimensions == {"minimum": 1, "maximum": 16}
    assert not entry.is_default


def test_later_starts_change_nothing_that_an_operator_set(fakes):
    seed(providers=["onnx"])
    AllowlistEntry.objects.all().delete()
    ProviderSetting.objects.filter(name="onnx").update(enabled=False)
    ModelEntry.objects.filter(provider="onnx").update(max_tokens=3)
    before = Revision.objects.get().number
    seed(providers=["onnx"])
    assert not AllowlistEntry.objects.exists()
    assert not ProviderSetting.objects.get(name="onnx").enabled
    assert set(
        ModelEntry.objects.filter(provider="onnx").values_list("max_tokens", flat=True)
    ) == {3}
    assert Revision.objects.get().number == before


def test_changes_are_seen_within_two_seconds_without_a_query_before(
    fakes, reader, clock, django_assert_num_queries
):
    seed()
    reader.current()
    ProviderSetting.objects.get(name="onnx").save()
    row = ProviderSetting.objects.get(name="onnx")
    row.enabled = False
    row.save()
    clock.now += 1.9
    with django_assert_num_queries(0):
        assert reader.current().allows_provider("onnx")
    clock.now += 0.1
    assert not reader.current().allows_provider("onnx")
    clock.now += 2
    with django_assert_num_queries(1):
        reader.current()


def test_what_was_read_last_holds_while_the_database_is_away(fakes, reader, clock):
    seed(providers=["onnx"])
    reader.current()
    clock.now += 5

    def away(execute, sql, params, many, context):
        raise OperationalError("away")

    with connection.execute_wrapper(away):
        assert not reader.current().allows_provider("openai")


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("m", True),
        ("p:m", True),
        ("p:*", True),
        ("m*", True),
        ("q:m", False),
        ("M", False),
        ("n*", False),
    ],
)
def test_models_match_with_and_without_their_prefix(pattern, allowed):
    settings = OperatorSettings(allowed_models=(pattern,))
    assert settings.allows_model("p", "m") is allowed


@pytest.mark.parametrize("pattern", ["", "  ", "a*b", "**"])
def test_patterns_end_in_a_star_or_have_none(pattern):
    with pytest.raises(ValidationError):
        AllowlistEntry(kind="model", pattern=pattern).full_clean()


@pytest.mark.parametrize(
    "sizes",
    [
        {"minimum": 1},
        {"minimum": 0, "maximum": 5},
        [0],
        ["a"],
        "x",
        5,
        {"minimum": 1, "maximum": 9000},
    ],
)
def test_native_dimensions_are_checked(sizes):
    entry = ModelEntry(
        provider="p", name="m", vector_space="s", native_dimensions=sizes
    )
    with pytest.raises(ValidationError):
        entry.full_clean()


def test_only_one_model_is_the_default(fakes):
    ModelEntry.objects.create(provider="p", name="a", vector_space="s", is_default=True)
    with pytest.raises(ValidationError):
        ModelEntry(
            provider="p", name="b", vector_space="s", is_default=True
        ).full_clean()
