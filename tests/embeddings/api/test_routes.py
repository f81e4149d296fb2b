"""What is said to answer a request is what answers it: each case is asked of the service and sent to the API."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from embeddings.access.caller_lookup import find_caller
from embeddings.api.exception_handler import SERVICE_STATUS
from embeddings.services.callers import SYSTEM
from embeddings.services.routes import route_of
from embeddings.services.types import EmbeddingRequest
from providers.exceptions import ProviderMisconfigured
from providers.models import AllowlistEntry, Breaker, ModelEntry, ProviderSetting
from providers.operator_settings import reader
from providers.seeding import seed_registry
from tests.fakes import MINILM

SMALL = "text-embedding-3-small"
CHAIN = {"openai": ("huggingface", "onnx"), "huggingface": ("onnx",)}


@pytest.fixture
def world(fakes, configure):
    """Providers by name, with rows as after a first start; openai is set up, and falls back to the local ones."""
    seed_registry(allowed_providers=[], allowed_models=[])
    configure(fallback_chain=CHAIN)
    fakes["openai"].problem = None
    return fakes


def unset(fakes):
    fakes["openai"].problem = "OPENAI_API_KEY is not set."


def not_prepared(fakes):
    for name in ("huggingface", "onnx"):
        fakes[name].problem = f"The weights of {name} are not on this machine."
        fakes[name].fault = ProviderMisconfigured(fakes[name].problem)


def nothing_set_up(fakes):
    unset(fakes)
    not_prepared(fakes)


def opened(name, **fields):
    later = timezone.now() + timedelta(seconds=30)
    row = {"state": "open", "retry_at": later, **fields}
    return lambda fakes: Breaker.objects.filter(provider=name).update(**row)


def due(fakes):
    past = timezone.now() - timedelta(seconds=1)
    opened("openai", retry_at=past)(fakes)


def probing(fakes):
    until = timezone.now() + timedelta(seconds=60)
    opened("openai", state="half_open", probe_until=until)(fakes)


def all_open(fakes):
    for name in ("openai", "huggingface", "onnx"):
        opened(name)(fakes)


def switched_off(fakes):
    ProviderSetting.objects.filter(name="huggingface").update(enabled=False)
    unset(fakes)


def model_switched_off(fakes):
    ModelEntry.objects.filter(provider="openai", name=SMALL).update(enabled=False)


def provider_left_out(fakes):
    AllowlistEntry.objects.create(kind="provider", pattern="onnx")


def model_left_out(fakes):
    AllowlistEntry.objects.create(kind="model", pattern=f"openai:{SMALL}")
    unset(fakes)


def other_default(fakes):
    rows = ModelEntry.objects.filter(provider="onnx", name="only-onnx")
    rows.update(is_default=True)


def nothing(fakes):
    pass


CASES = [
    (nothing, {}),
    (nothing, {"model": SMALL, "fallback": "off"}),
    (nothing, {"model": "nope"}),
    (nothing, {"model": "onnx:nope"}),
    (nothing, {"model": "onnx:only-onnx", "provider": "openai"}),
    (nothing, {"model": SMALL, "provider": "nobody"}),
    (nothing, {"model": "only-onnx"}),
    (unset, {"model": SMALL}),
    (unset, {"model": SMALL, "fallback": "off"}),
    (unset, {"model": SMALL, "fallback": "same_space"}),
    (not_prepared, {"model": MINILM, "provider": "huggingface"}),
    (nothing_set_up, {"model": SMALL}),
    (opened("openai"), {"model": SMALL}),
    (opened("openai"), {"model": SMALL, "fallback": "off"}),
    (opened("huggingface"), {"model": f"huggingface:{MINILM}"}),
    (
        opened("huggingface"),
        {"model": f"huggingface:{MINILM}", "fallback": "same_space"},
    ),
    (due, {"model": SMALL}),
    (probing, {"model": SMALL}),
    (all_open, {"model": SMALL}),
    (switched_off, {"model": SMALL}),
    (model_switched_off, {"model": SMALL}),
    (provider_left_out, {"model": SMALL}),
    (provider_left_out, {"model": "onnx:only-onnx"}),
    (model_left_out, {"model": SMALL}),
    (model_left_out, {"model": MINILM}),
    (other_default, {}),
]


def foretold(request, caller=SYSTEM):
    """Return the status and the provider that are said to come."""
    route = route_of(EmbeddingRequest(inputs=["a"], caller=caller, **request))
    if route.answer:
        return 200, route.answer.provider.name
    assert route.error is not None
    return SERVICE_STATUS[type(route.error)], None


def sent(client, request):
    """Return the status and the provider that do come."""
    body = {name: value for name, value in request.items() if name != "fallback"}
    headers = {}
    if "fallback" in request:
        headers["X-Embeddings-Fallback"] = request["fallback"]
    answer = client.post(
        "/api/v1/embeddings/batch",
        {"texts": ["a"], **body},
        format="json",
        headers=headers,
    )
    return answer.status_code, answer.headers.get("X-Embeddings-Provider")


@pytest.mark.parametrize(
    ("prepare", "request_"),
    CASES,
    ids=[f"{number}" for number, _ in enumerate(CASES)],
)
def test_what_is_said_to_answer_does(client, world, prepare, request_):
    prepare(world)
    reader.cache_clear()
    expected = foretold(request_)
    assert not any(fake.calls for fake in world.values())
    assert sent(client, request_) == expected


@pytest.mark.parametrize(
    "scopes",
    [
        {"allowed_providers": ["onnx"]},
        {"allowed_models": ["only-*"]},
        {"allowed_models": [SMALL]},
        {},
    ],
)
@pytest.mark.parametrize("model", [SMALL, "onnx:only-onnx", MINILM])
def test_a_key_s_scopes_count(world, ada, key_of, scopes, model):
    unset(world)
    reader.cache_clear()
    text = key_of(ada, **scopes)
    caller = find_caller(text[:15])
    assert caller is not None
    client = APIClient(headers={"X-API-KEY": text})
    assert sent(client, {"model": model}) == foretold({"model": model}, caller)


def test_each_place_of_the_way_has_its_reason(world):
    opened("huggingface")(world)
    unset(world)
    AllowlistEntry.objects.create(kind="provider", pattern="openai")
    AllowlistEntry.objects.create(kind="provider", pattern="huggingface")
    reader.cache_clear()
    route = route_of(EmbeddingRequest(inputs=["a"], model=SMALL))
    assert [(one.provider, one.outcome, one.reason) for one in route.steps] == [
        ("openai", "fails", "OPENAI_API_KEY is not set."),
        ("huggingface", "fails", "The circuit breaker of huggingface is open."),
        ("onnx", "left out", "The allowlist leaves provider onnx out."),
    ]


def test_what_comes_after_the_answer_is_not_needed(world):
    unset(world)
    route = route_of(EmbeddingRequest(inputs=["a"], model=SMALL))
    assert [one.outcome for one in route.steps] == ["fails", "answers", "not needed"]


def test_fallback_of_another_space_says_which(world):
    unset(world)
    request = EmbeddingRequest(inputs=["a"], model=SMALL, fallback="same_space")
    assert (
        route_of(request).steps[1].reason
        == f"Its vectors are of another space ({MINILM})."
    )


def test_refused_model_says_who_refuses_it(world, ada, key_of):
    caller = find_caller(key_of(ada, allowed_models=["x"])[:15])
    assert caller is not None
    route = route_of(EmbeddingRequest(inputs=["a"], model=SMALL, caller=caller))
    (step,) = route.steps
    assert step.reason == f"The caller's own scopes leave the model openai:{SMALL} out."
