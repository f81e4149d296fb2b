"""What must lie on disk before local models can serve: their weights, and the vocabulary for token arrays."""

from pathlib import Path

import structlog
from django.conf import settings

from embeddings.conf import DEFAULT_LOCAL_MODEL
from embeddings.services.action_records import Watch
from embeddings.services.catalog import model_state
from embeddings.services.errors import ModelActionFailed
from embeddings.services.model_actions import download
from providers.engine.vocabulary import prepare_vocabulary
from providers.exceptions import ProviderError
from providers.registry import registry

log = structlog.get_logger(__name__)


def prepare_local_model(watch: Watch | None = None) -> str:
    """Fetch what is missing and return the model's name; `watch` is called with how far the model's download is.

    What an older version of this server prepared is prepared again.
    """
    try:
        prepare_vocabulary(Path(settings.DATA_DIR))
    except ProviderError as error:
        raise ModelActionFailed(error.message) from error
    if not model_state(f"huggingface:{DEFAULT_LOCAL_MODEL}").downloaded:
        download(model=DEFAULT_LOCAL_MODEL, provider="huggingface", watch=watch)
    _renew()
    return DEFAULT_LOCAL_MODEL


def _renew() -> None:
    for provider in registry().all():
        for name in provider.outdated():
            try:
                provider.download(name)
            except ProviderError as error:  # the others can still be served
                log.warning("model_not_renewed", model=name, reason=error.message)
            else:
                log.info("model_renewed", model=name)
