"""sentence-transformers, for models that need it. The only module that imports torch, and only when one is loaded."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from providers.base import Vectors
from providers.engine.model_config import ModelConfig
from providers.engine.runtime import Row
from providers.engine.tokenizer import ModelTokenizer
from providers.exceptions import ProviderMisconfigured


def torch_problem(name: str) -> str | None:
    """Say that sentence-transformers is not installed, and how that is done; None where it is."""
    if importlib.util.find_spec("sentence_transformers"):
        return None
    return f"{name} can only run on torch: install it with `pip install 'embeddings-server[torch]'`."


def load_sentence_transformer(path: Path, *, name: str, threads: int) -> Any:
    """Return the SentenceTransformer in a folder, in float32. Raises ProviderMisconfigured.

    Remote code is never run, pickled weights never read.
    """
    if problem := torch_problem(name):
        raise ProviderMisconfigured(problem)
    # The extra is absent where types are checked.
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("sentence_transformers")

    torch.set_num_threads(threads)
    try:
        return library.SentenceTransformer(
            str(path),
            device="cpu",
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except (ImportError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ProviderMisconfigured(
            f"sentence-transformers could not load {name}."
        ) from error


class TorchRuntime:
    """One SentenceTransformer from local files."""

    def __init__(self, path: Path, *, name: str, threads: int) -> None:
        self._model = load_sentence_transformer(path, name=name, threads=threads)

    def tokenizer(self, config: ModelConfig) -> ModelTokenizer:
        """Return a tokenizer that shares nothing with the one the model uses."""
        from tokenizers import Tokenizer

        backend = getattr(self._model.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ProviderMisconfigured(
                "The model's tokenizer has no fast version; it cannot be served."
            )
        return ModelTokenizer(
            Tokenizer.from_str(backend.to_str()), lower_case=config.lower_case
        )

    def run(self, rows: Sequence[Row], *, wide: bool = False) -> Vectors:
        """Return float32 (len(rows), dimensions); torch always takes all cores it was given."""
        texts = [row.text for row in rows]
        # An empty prompt keeps a `default_prompt_name` out: prompts are put before the texts earlier.
        vectors = self._model.encode(
            texts, batch_size=len(texts), prompt="", show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)

    def rest(self) -> None:
        """Do nothing: torch gives memory back by itself."""
