import pytest

from tests.contract.cases import REMOTE_CASES


@pytest.fixture(params=REMOTE_CASES, ids=lambda case: case.id)
def case(request):
    return request.param


@pytest.fixture
def upstream(case):
    with case.upstream() as upstream:
        yield upstream


@pytest.fixture
def pauses():
    """What the provider would have slept, in seconds."""
    return []


@pytest.fixture
def provider(case, upstream, pauses):
    with case.open(upstream, pauses=pauses) as provider:
        yield provider


@pytest.fixture
def embed(case, provider):
    """Embed with the case's model and ordinary arguments, unless others are given."""

    def embed(
        texts,
        *,
        model=case.model,
        dimensions=None,
        input_type="document",
        timeout_seconds=10.0,
    ):
        spec = provider.resolve(model)
        return provider.embed(
            spec,
            texts,
            dimensions=dimensions,
            input_type=input_type,
            timeout_seconds=timeout_seconds,
        )

    return embed
