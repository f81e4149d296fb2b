"""What the commands over corpora share."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from django.core.management.base import CommandError

from embeddings.services.errors import ServiceError
from media_jobs.corpus.errors import CorpusError
from providers.exceptions import ProviderError


def require(package: str, *, extra: str) -> None:
    """Raise CommandError where the extra is not installed that a command needs."""
    if find_spec(package) is None:
        raise CommandError(
            f"This needs {package}: run `pip install 'embeddings-server[{extra}]'`."
        )


@contextmanager
def explained() -> Iterator[None]:
    """Have what stops a command said as one sentence."""
    try:
        yield
    except (CorpusError, ServiceError, ProviderError) as error:
        raise CommandError(error.message) from error
    except OSError as error:
        raise CommandError(str(error)) from error
