"""The providers that the contract suite runs against. A new one is one more case.

A local provider is a case with `open_provider` of its own and no upstream.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field

from providers.plugins.cohere import CohereProvider
from providers.plugins.google import GoogleProvider
from providers.plugins.local_api import LocalApiProvider
from providers.plugins.mistral import MistralProvider
from providers.plugins.openai import OpenAIProvider
from providers.plugins.voyage import VoyageProvider
from providers.remote import Runtime
from tests.upstreams import (
    CohereUpstream,
    CompatibleUpstream,
    GoogleUpstream,
    MistralUpstream,
    OllamaUpstream,
    OpenAIUpstream,
    TeiUpstream,
    VoyageUpstream,
)
from tests.upstreams.local_servers import DIMENSIONS

LOCAL_MODEL = "nomic-embed-text:v1.5"


@dataclass(frozen=True, kw_only=True)
class ProviderCase:
    """What the suite must know of a provider; `smaller` is a native size to ask for."""

    id: str
    provider: type
    upstream: type
    model: str
    dimensions: int
    smaller: tuple[str, int] | None = None
    input_types: bool = False
    max_items: int = 1
    options: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(vars(self.provider)["name"])

    @property
    def knows_dimensions(self):
        return self.provider is not LocalApiProvider

    @contextmanager
    def open(self, upstream, *, pauses=None, **options):
        """Yield a provider on `upstream` that lists its pauses instead of sleeping."""
        given = {"api_key": upstream.api_key, "base_url": upstream.base_url}
        sleep = ([] if pauses is None else pauses).append
        provider = self.provider(
            {**given, **self.options, **options}, runtime=Runtime(sleep=sleep)
        )
        try:
            yield provider
        finally:
            provider.close()


REMOTE_CASES = (
    ProviderCase(
        id="openai",
        provider=OpenAIProvider,
        upstream=OpenAIUpstream,
        model="text-embedding-3-small",
        dimensions=1536,
        smaller=("text-embedding-3-large", 256),
        max_items=2048,
    ),
    ProviderCase(
        id="cohere",
        provider=CohereProvider,
        upstream=CohereUpstream,
        model="embed-english-v3.0",
        dimensions=1024,
        smaller=("embed-v4.0", 256),
        input_types=True,
        max_items=96,
    ),
    ProviderCase(
        id="voyage",
        provider=VoyageProvider,
        upstream=VoyageUpstream,
        model="voyage-4-lite",
        dimensions=1024,
        smaller=("voyage-4-large", 256),
        input_types=True,
        max_items=1000,
    ),
    ProviderCase(
        id="google",
        provider=GoogleProvider,
        upstream=GoogleUpstream,
        model="gemini-embedding-001",
        dimensions=3072,
        smaller=("gemini-embedding-2", 768),
        input_types=True,
        max_items=100,
    ),
    ProviderCase(
        id="mistral",
        provider=MistralProvider,
        upstream=MistralUpstream,
        model="mistral-embed",
        dimensions=1024,
        smaller=("codestral-embed", 256),
        max_items=128,
    ),
    ProviderCase(
        id="local_api-openai",
        provider=LocalApiProvider,
        upstream=CompatibleUpstream,
        model=LOCAL_MODEL,
        dimensions=DIMENSIONS,
        max_items=32,
    ),
    ProviderCase(
        id="local_api-tei",
        provider=LocalApiProvider,
        upstream=TeiUpstream,
        model=LOCAL_MODEL,
        dimensions=DIMENSIONS,
        max_items=32,
        options={"kind": "tei"},
    ),
    ProviderCase(
        id="local_api-ollama",
        provider=LocalApiProvider,
        upstream=OllamaUpstream,
        model=LOCAL_MODEL,
        dimensions=DIMENSIONS,
        max_items=32,
        options={"kind": "ollama"},
    ),
)
