"""A graph of what torch alone can load, written once by torch.onnx: from then on ONNX Runtime serves it, without torch.

torch stays out of the server: it exports in a process of its own.

    python -m providers.engine.torch_export FOLDER
"""

import gc
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import structlog

from providers.engine.child import run_child
from providers.engine.described import TOKENIZER_FILE
from providers.engine.machine import has_torch, usable_cores
from providers.engine.model_config import ModelConfig, read_model_config
from providers.engine.repository import EXPORTED_DATA, EXPORTED_FILE
from providers.exceptions import ProviderMisconfigured

_TIMEOUT_SECONDS = 3600.0
_CANNOT = 3
# opset 23 has a rotary operator that ONNX Runtime runs for some models only.
_OPSET = 18
_EXAMPLE = (2, 9)  # texts, tokens: neither is one, which an export takes for fixed
log = structlog.get_logger(__name__)


def export(folder: Path, config: ModelConfig) -> str | None:
    """Write EXPORTED_FILE, its data and the tokenizer that goes with it into a folder that holds the safetensors.

    Return None, or one phrase that says why that cannot be done; then no file of it is left. What was written is still
    to be compared with sentence-transformers.
    """
    reason = _lack(config)
    if reason is None:
        finished = run_child(__name__, folder, timeout_seconds=_TIMEOUT_SECONDS)
        if finished.succeeded:
            log.info("model_exported", folder=folder.name)
            return None
        reason = f"it could not be exported: {finished.reason}"
    discard(folder)
    return reason


def discard(folder: Path) -> None:
    """Remove what was exported."""
    for name in (EXPORTED_FILE, EXPORTED_DATA):
        (folder / name).unlink(missing_ok=True)


def _lack(config: ModelConfig) -> str | None:
    if not (has_torch() and importlib.util.find_spec("onnxscript")):
        return "its export needs onnxscript: install it with `pip install 'embeddings-server[torch]'`"
    if config.foreign != config.foreign_module:
        return f"only sentence-transformers heeds {config.foreign}"
    if config.foreign and not config.include_prompt:
        return "an export cannot leave the prompt out of its pooling"
    return None


def _main(folder: Path) -> int:
    from providers.engine.torch_runtime import load_sentence_transformer

    config = read_model_config(folder)
    model: Any = None
    reason = ""
    # Some models' default attention exports with another result or not at all; a few have no other than that.
    for attention in ("eager", None):
        try:
            model = load_sentence_transformer(
                folder,
                name=folder.name,
                threads=usable_cores(),
                attention=attention,
            )
        except ProviderMisconfigured as error:
            reason = error.message
            continue
        try:
            _export(model, config, folder / EXPORTED_FILE)
        except (
            Exception
        ) as error:  # torch.onnx raises whatever the model's code leads to
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            model = None
            gc.collect()
            continue
        return _write_tokenizer(model, folder / TOKENIZER_FILE)
    sys.stderr.write(reason)
    return _CANNOT


def _export(model: Any, config: ModelConfig, path: Path) -> None:
    """Write the encoder, whose token vectors this server pools; the whole model where a module is not known here."""
    torch: Any = importlib.import_module("torch")
    whole = config.foreign is not None

    class Served(torch.nn.Module):  # type: ignore[misc]
        """(batch, length) ids and mask in; float32 (batch, length, hidden) or (batch, dimensions) out."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model if whole else model[0].auto_model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            named = {"input_ids": input_ids, "attention_mask": attention_mask}
            if whole:
                return self.model(named)["sentence_embedding"]
            return self.model(**named).last_hidden_state

    encoder = model[0].auto_model
    if getattr(encoder.config, "use_cache", False):
        encoder.config.use_cache = False
    ids = torch.arange(_EXAMPLE[0] * _EXAMPLE[1]).reshape(_EXAMPLE)
    ids = ids % encoder.config.vocab_size
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    names = ["input_ids", "attention_mask"]
    with torch.no_grad():
        torch.onnx.export(
            Served().eval(),
            (ids, torch.ones_like(ids)),
            str(path),
            input_names=names,
            output_names=["sentence_embedding" if whole else "last_hidden_state"],
            dynamo=True,
            opset_version=_OPSET,
            dynamic_shapes=dict.fromkeys(names, sizes),
            external_data=True,
            verbose=False,
        )


def _write_tokenizer(model: Any, path: Path) -> int:
    """Write the tokenizer as transformers makes it of the model's files: that can be another than tokenizer.json."""
    from tokenizers import Tokenizer

    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        sys.stderr.write("its tokenizer has no fast version")
        return _CANNOT
    own = Tokenizer.from_str(backend.to_str())
    own.no_padding()
    own.no_truncation()
    own.save(str(path))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
