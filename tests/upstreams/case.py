"""What the contract suite must know of a provider."""

from contextlib import contextmanager
from dataclasses import dataclass, field

from providers.remote import Clocks


@dataclass(frozen=True, kw_only=True)
class ProviderCase:
    """A provider, and the stub it talks to; `smaller` is a native size to ask for."""

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
        return self.name != "local_api"

    @contextmanager
    def open(self, upstream, *, pauses=None, **options):
        """Yield a provider on `upstream` that lists its pauses instead of sleeping."""
        given = {"api_key": upstream.api_key, "base_url": upstream.base_url}
        sleep = ([] if pauses is None else pauses).append
        provider = self.provider(
            {**given, **self.options, **options}, clocks=Clocks(sleep=sleep)
        )
        try:
            yield provider
        finally:
            provider.close()
