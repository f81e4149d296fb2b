"""sentence-transformers, for models that need it. The only module that imports torch, and only when one is loaded."""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from providers.base import Vectors
from providers.engine.described import refused, refusing
from providers.engine.devices import CPU, Device
from providers.engine.graph import checkpoint
from providers.engine.machine import has_torch
from providers.engine.model_config import ModelConfig, read_model_config
from providers.engine.repository import NEEDS_TORCH
from providers.engine.runtime import Row
from providers.engine.tokenizer import ModelTokenizer
from providers.exceptions import ProviderMisconfigured

_raise_for = refusing(checkpoint.raise_for)


def load_sentence_transformer(
    path: Path,
    *,
    name: str,
    threads: int,
    device: Device = CPU,
    attention: str | None = None,
) -> Any:
    """Return the SentenceTransformer in a folder, in float32 whatever the checkpoint's precision.

    `attention`: which of transformers' implementations computes it; None: the model's default.
    Remote code is never run, pickled weights never read. Raises ProviderMisconfigured, also for a checkpoint that lacks
    parameters.
    """
    if not has_torch():
        raise refused(NEEDS_TORCH)
    # Older versions of this server prepared such models, too.
    config = read_model_config(path)
    if config.onnx_only:
        raise refused(config.onnx_only)
    # The extra is absent where types are checked.
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("sentence_transformers")

    if device.is_cuda and not torch.cuda.is_available():
        raise ProviderMisconfigured(
            f"torch could not use {device}: install a build of it for CUDA, or set EMBEDDINGS_DEVICE=cpu."
        )
    torch.set_num_threads(threads)
    options: dict[str, Any] = {
        "use_safetensors": True,
        precision_option(): torch.float32,
    }
    if attention is not None:
        options["attn_implementation"] = attention
    try:
        model: Any = library.SentenceTransformer(
            str(path),
            device=str(device),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs=options,
        )
        if config.static is not None:
            model = model.float()
        else:
            _check_parameters(model, path, options)
    except (ImportError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ProviderMisconfigured(
            f"sentence-transformers could not load {name}."
        ) from error
    # Vectors are whole here; whoever wants fewer dimensions asks for them.
    model.truncate_dim = None
    return model


class TorchRuntime:
    """One SentenceTransformer from local files, in float32 whatever the checkpoint's precision."""

    def __init__(
        self, path: Path, *, name: str, threads: int, device: Device = CPU
    ) -> None:
        self._model = load_sentence_transformer(
            path, name=name, threads=threads, device=device
        )

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
        found: list[Vectors | None] = [None] * len(rows)
        for prompt in {row.prompt for row in rows}:
            places = [place for place, row in enumerate(rows) if row.prompt == prompt]
            texts = [rows[place].text.removeprefix(prompt) for place in places]
            # An empty prompt keeps a `default_prompt_name` out: other prompts stand before the texts already.
            vectors = self._model.encode(
                texts, batch_size=len(texts), prompt=prompt, show_progress_bar=False
            )
            for place, vector in zip(places, vectors, strict=True):
                found[place] = vector
        return np.asarray(found, dtype=np.float32)

    def rest(self) -> None:
        """Do nothing: torch gives memory back by itself."""


def precision_option() -> str:
    """Return what transformers calls the numbers' type: `torch_dtype` up to 4.55, and only a fallback since."""
    version = importlib.metadata.version("transformers").split(".")
    return "dtype" if (int(version[0]), int(version[1])) >= (4, 56) else "torch_dtype"


def _check_parameters(model: Any, path: Path, options: Mapping[str, Any]) -> None:
    """Raise ProviderMisconfigured where the encoder and its checkpoint are not of one architecture.

    What a checkpoint lacks, transformers fills with random numbers, others in every process, and it drops the rest.
    The encoder is loaded again for that, and takes the place of the one that is there: there is memory for one.
    """
    encoder = model[0].auto_model
    if odd := {str(each.dtype) for each in model.parameters()} - {"torch.float32"}:
        raise refused(
            f"its parameters are {sorted(odd)[0]} and could not be widened to float32"
        )
    [place] = [name for name, part in model[0].named_children() if part is encoder]
    encoder.to("meta")
    encoder, report = type(encoder).from_pretrained(
        str(path),
        config=encoder.config,
        local_files_only=True,
        output_loading_info=True,
        **options,
    )
    setattr(model[0], place, encoder.eval())
    lacking = set(report["missing_keys"])
    if lacking:
        kept = {name for name, _ in encoder.named_buffers()}
        lacking &= _used(encoder, lacking) | set(checkpoint.beside_the_encoder(kept))
    _raise_for("lacks {} that its config.json asks for", lacking)
    base = f"{encoder.base_model_prefix}."
    strays = {name.removeprefix(base) for name in report["unexpected_keys"]}
    _raise_for(
        "holds {} that its architecture knows nothing of",
        checkpoint.beside_the_encoder(strays),
    )
    _raise_for(
        "holds {} of another shape than its config.json says",
        (str(key) for key in report["mismatched_keys"]),
    )


def _used(encoder: Any, names: set[str]) -> set[str]:
    """Return which of these parameters a token vector depends on: those that a gradient reaches."""
    torch: Any = importlib.import_module("torch")
    ids = torch.tensor([[0, 1, 2]], device=encoder.device)
    asked = {name: p for name, p in encoder.named_parameters() if name in names}
    encoder.requires_grad_(requires_grad=False)
    with torch.enable_grad():
        for parameter in asked.values():
            parameter.requires_grad_()
        answer = encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
        total = answer.last_hidden_state.sum()
        if total.requires_grad:
            total.backward()
    used = {name for name, parameter in asked.items() if parameter.grad is not None}
    encoder.zero_grad(set_to_none=True)
    return used
