import pytest

from tests.providers.remote.echo import echo
from tests.upstreams import OpenAIUpstream


@pytest.fixture
def upstream():
    with OpenAIUpstream() as upstream:
        yield upstream


@pytest.fixture
def open_echo(upstream):
    """Open echo providers on the stub and close them after the test."""
    opened = []

    def open_one(**options):
        opened.append(echo(upstream, **options))
        return opened[-1]

    yield open_one
    for provider in opened:
        provider.close()
