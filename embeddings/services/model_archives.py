"""A prepared local model written to one file, and taken in from one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embeddings.services.action_records import Watch
from embeddings.services.errors import ModelNotReady
from embeddings.services.routing import named_provider
from providers.engine.archives import Archive
from providers.engine.local_provider import LocalProvider
from providers.exceptions import ProviderError
from providers.progress import Progress, progress_of
from providers.registry import registry


def export_model(model: str, target: Path, *, watch: Watch | None = None) -> Archive:
    """Write a prepared model to `target`. Raises InvalidRequest or ModelNotReady."""
    with _shown(watch):
        return _local().export_model(model, target)


def import_model(source: Path, *, watch: Watch | None = None) -> Archive:
    """Take in the model of a file that `export_model` wrote. Raises InvalidRequest or ModelNotReady."""
    with _shown(watch):
        archive = _local().import_model(source)
    registry().list_again()
    return archive


def _local() -> LocalProvider:
    provider = named_provider("huggingface")
    if not isinstance(provider, LocalProvider):
        raise ModelNotReady("This server runs no models itself.")
    return provider


@contextmanager
def _shown(watch: Watch | None) -> Iterator[None]:
    token = progress_of.set(Progress(watch))
    try:
        yield
    except ProviderError as error:
        raise ModelNotReady(error.message) from error
    finally:
        progress_of.reset(token)
