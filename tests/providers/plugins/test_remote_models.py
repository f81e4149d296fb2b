"""The models that the hosted providers list."""

from typing import Any

import pytest

from providers.plugins.cohere import CohereProvider
from providers.plugins.google import GoogleProvider
from providers.plugins.local_api import LocalApiProvider
from providers.plugins.mistral import MistralProvider
from providers.plugins.openai import OpenAIProvider
from providers.plugins.voyage import VoyageProvider

HOSTED: tuple[type[Any], ...] = (
    OpenAIProvider,
    CohereProvider,
    VoyageProvider,
    GoogleProvider,
    MistralProvider,
)
LISTED = [(kind, spec) for kind in HOSTED for spec in kind({}).models()]


@pytest.mark.parametrize(
    ("kind", "spec"), LISTED, ids=lambda value: getattr(value, "name", None)
)
def test_listed_model_is_complete(kind, spec):
    assert spec.dimensions > 0
    assert spec.max_tokens > 0
    assert spec.vector_space.startswith(f"{kind.name}/")
    assert not spec.native_dimensions or spec.dimensions in spec.native_dimensions
    assert spec.retired or spec.price_per_million_tokens > 0
    assert kind({}).resolve(spec.name) is spec


@pytest.mark.parametrize("kind", HOSTED)
def test_names_and_aliases_are_unique(kind):
    names = [name for spec in kind.listed for name in (spec.name, *spec.aliases)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", HOSTED)
def test_unlisted_name_is_unknown(kind):
    assert kind({}).resolve("no-such-model") is None


@pytest.mark.parametrize("kind", HOSTED)
def test_default_address_needs_only_the_key(kind):
    assert kind({"api_key": "k"}).configuration_problem() is None
    assert kind.default_base_url.startswith("https://")


def test_families_share_one_space():
    def space(kind, name):
        return kind({}).resolve(name).vector_space

    assert space(VoyageProvider, "voyage-4") == space(VoyageProvider, "voyage-4-large")
    assert space(VoyageProvider, "voyage-4") == space(VoyageProvider, "voyage-4-lite")
    assert space(VoyageProvider, "voyage-4") != space(VoyageProvider, "voyage-3.5")
    pro = space(CohereProvider, "embed-v5.0-pro")
    assert pro == space(CohereProvider, "embed-v5.0-fast")
    assert pro != space(CohereProvider, "embed-v4.0")


@pytest.mark.parametrize(
    "name",
    [
        "nomic-embed-text:v1.5",
        "BAAI/bge-m3",
        "mxbai-embed-large",
        "hf.co/org/model-GGUF:Q4_K_M",
        "model@sha256+x",
    ],
)
def test_local_api_takes_any_sane_name(name):
    spec = LocalApiProvider({}).resolve(name)

    assert spec is not None
    assert spec.name == name
    assert spec.dimensions is None
    assert spec.vector_space == f"local_api/{name}"


@pytest.mark.parametrize(
    "name", ["", "-x", "a b", "a\n", "ü", "x" * 201, "../x", "a?b"]
)
def test_local_api_refuses_odd_names(name):
    assert LocalApiProvider({}).resolve(name) is None


def test_local_api_lists_nothing():
    assert list(LocalApiProvider({}).models()) == []
