"""Which target a request goes to, and which may take its place."""

from dataclasses import replace

import pytest

from embeddings.services.callers import Caller
from embeddings.services.errors import InvalidRequest, NotAllowed
from embeddings.services.routing import (
    fallback_targets,
    find_target,
    primary_target,
    requested_target,
)
from embeddings.services.types import EmbeddingRequest
from providers.models import AllowlistEntry, ModelEntry, ProviderSetting
from providers.operator_settings import reader
from providers.registry import registry
from providers.seeding import seed_registry
from tests.fakes import MINILM

SMALL = "text-embedding-3-small"


@pytest.fixture
def chain(fakes, configure):
    """Return a function that sets openai's fallbacks, with which model each, and lists the targets."""

    def targets(*providers, models=None, of=f"openai:{SMALL}", **request):
        primary = find_target(model=of)
        configure(fallback_chain={primary.provider.name: providers})
        if models is not None:
            configure(fallback_models=models)
        asked = EmbeddingRequest(inputs=["a"], **request)
        return [
            f"{target.provider.name}:{target.model.name}"
            for target in fallback_targets(asked, primary)
        ]

    return targets


@pytest.fixture
def operator(fakes):
    """Return a function that changes what the operator set, counting at once."""
    seed_registry(allowed_providers=[], allowed_models=[])
    reader.cache_clear()

    def change(query, **values):
        query.update(**values)
        reader.cache_clear()

    return change


def test_fallbacks_are_tried_in_the_chain_s_order(chain):
    assert chain("onnx", "huggingface") == [f"onnx:{MINILM}", f"huggingface:{MINILM}"]


def test_provider_is_no_fallback_for_itself(chain):
    assert chain("onnx", "huggingface", of=f"onnx:{MINILM}") == [
        f"huggingface:{MINILM}"
    ]


def test_unknown_provider_in_the_chain_is_left_out(chain):
    assert chain("acme", "onnx") == [f"onnx:{MINILM}"]


def test_same_model_elsewhere_goes_before_the_mapped_one(chain):
    models = {"*": "only-onnx"}
    assert chain("onnx", of=f"huggingface:{MINILM}", models=models) == [
        f"onnx:{MINILM}"
    ]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ({SMALL: "only-onnx", f"{SMALL}*": MINILM}, "only-onnx"),
        ({f"{SMALL}*": MINILM, SMALL: "only-onnx"}, "only-onnx"),
        ({"*": MINILM, "text-embedding-*": "only-onnx", "text-*": MINILM}, "only-onnx"),
        ({"cohere-*": "only-onnx"}, MINILM),
    ],
)
def test_exact_entry_is_mapped_before_the_longest_pattern(chain, models, expected):
    assert chain("onnx", models=models) == [f"onnx:{expected}"]


@pytest.mark.parametrize(
    ("asked", "server", "tried"),
    [
        (None, "any", ["onnx"]),
        (None, "off", []),
        ("off", "any", []),
        ("any", "off", ["onnx"]),
        ("same_space", "any", []),
    ],
)
def test_request_s_own_mode_goes_before_the_server_s(
    chain, configure, asked, server, tried
):
    configure(fallback=server)
    found = chain("onnx", fallback=asked)
    assert [label.partition(":")[0] for label in found] == tried


def test_fallback_is_bound_by_the_caller_s_scopes_and_the_operator_s(chain, operator):
    caller = Caller(id="c", username="c", is_admin=False, allowed_providers=("onnx",))
    providers = ("huggingface", "onnx")
    assert chain(*providers, caller=caller) == [f"onnx:{MINILM}"]
    operator(ProviderSetting.objects.filter(name="onnx"), enabled=False)
    assert chain(*providers, caller=caller) == []
    assert chain(*providers) == [f"huggingface:{MINILM}"]
    AllowlistEntry.objects.create(kind="model", pattern="text-*")
    reader.cache_clear()
    assert chain(*providers) == []


def test_bare_name_goes_to_the_default_provider_if_that_lists_it(fakes, configure):
    for default, expected in (
        ("onnx", "onnx"),
        ("huggingface", "huggingface"),
        ("openai", "huggingface"),  # the first that lists it
    ):
        configure(default_provider=default)
        assert find_target(model=MINILM).provider.name == expected


def test_default_of_the_console_is_that_of_its_own_provider(operator, configure):
    configure(default_model=MINILM)
    operator(
        ModelEntry.objects.filter(provider="onnx", name="only-onnx"), is_default=True
    )
    assert primary_target(model=None, provider=None).label == "onnx:only-onnx"
    assert primary_target(model=None, provider="onnx").label == "onnx:only-onnx"
    elsewhere = primary_target(model=None, provider="huggingface")
    assert elsewhere.label == f"huggingface:{MINILM}"


def test_prefix_and_provider_may_agree_and_must_not_differ(fakes):
    found = find_target(model=f"ONNX:{MINILM}", provider=" Onnx ")
    assert found.provider is fakes["onnx"]
    with pytest.raises(InvalidRequest, match="the request names huggingface"):
        find_target(model=f"onnx:{MINILM}", provider="huggingface")


def test_what_stands_before_a_colon_is_a_provider_only_if_there_is_one(fakes):
    with pytest.raises(Exception, match="'acme:model' is not known"):
        find_target(model="acme:model")


def test_target_that_a_request_brings_is_the_one_it_gets(fakes):
    target = find_target(model=f"onnx:{MINILM}")
    asked = EmbeddingRequest(inputs=["a"], target=target, model="no-such-model")
    assert requested_target(asked) is target


@pytest.mark.parametrize(
    "scope", [{"allowed_providers": ("openai",)}, {"allowed_models": ("text-*",)}]
)
def test_target_that_a_request_brings_is_checked_like_any_other(fakes, scope):
    target = find_target(model=f"onnx:{MINILM}")
    narrow = Caller(id="c", username="c", is_admin=False, **scope)
    with pytest.raises(NotAllowed):
        requested_target(EmbeddingRequest(inputs=["a"], target=target, caller=narrow))


def test_a_common_name_means_a_local_model_where_no_other_that_is_set_up_lists_it(
    fakes, configure, monkeypatch
):
    assert find_target(model="commonly").label == "onnx:only-onnx"
    named = replace(fakes["openai"].specs[0], name="commonly")
    monkeypatch.setattr(fakes["openai"], "specs", (named,))
    registry().list_again()
    assert find_target(model="commonly").provider.name == "onnx"
    with monkeypatch.context() as patch:
        patch.setattr(fakes["huggingface"], "specs", (named,))
        registry().list_again()
        assert find_target(model="commonly").provider.name == "huggingface"
    registry().list_again()
    for default in ("openai", "onnx"):
        configure(default_provider=default)
        fakes["openai"].problem = None
        assert find_target(model="commonly").provider.name == "openai"
    assert find_target(model="only").provider.name == "onnx"
    assert find_target(model="onnx:commonly").label == "onnx:only-onnx"
