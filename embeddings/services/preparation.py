"""What must lie on disk before the local model can serve: its weights, and the vocabulary for token arrays."""

from pathlib import Path

from django.conf import settings

from embeddings.conf import DEFAULT_LOCAL_MODEL
from embeddings.services.catalog import download, model_state
from embeddings.services.errors import ModelActionFailed
from providers.engine.vocabulary import prepare_vocabulary
from providers.exceptions import ProviderError


def prepare_local_model() -> str:
    """Fetch what is missing, with a progress bar on a terminal, and return the model's name."""
    try:
        prepare_vocabulary(Path(settings.DATA_DIR))
    except ProviderError as error:
        raise ModelActionFailed(error.message) from error
    if not model_state(f"huggingface:{DEFAULT_LOCAL_MODEL}").downloaded:
        download(model=DEFAULT_LOCAL_MODEL, provider="huggingface")
    return DEFAULT_LOCAL_MODEL
