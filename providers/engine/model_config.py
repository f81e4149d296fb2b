"""What a model folder says of itself, read from its own JSON files. Standard library only.

Formats: transformers' config.json, and sentence-transformers' modules.json, N_Pooling/config.json, N_Dense/config.json,
sentence_bert_config.json and config_sentence_transformers.json, in their older and newer spellings.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from providers.exceptions import ProviderMisconfigured

POOLING_MODES = (
    "cls",
    "max",
    "mean",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken",
)
# In the order in which sentence-transformers concatenates them.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# RoBERTa counts positions from pad_token_id + 1, so that many rows of its table are never a text's.
POSITIONS_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})
# Families whose graph providers/engine/graph can write.
FAMILIES = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "distilbert"})
GRAPH_VERSION = 3
GRAPH_FILE = f"graph-v{GRAPH_VERSION}.onnx"
PARAMETERS_FILE = f"graph-v{GRAPH_VERSION}.bin"
FAST_GRAPH_FILE = f"graph-v{GRAPH_VERSION}-int8.onnx"
FAST_PARAMETERS_FILE = f"graph-v{GRAPH_VERSION}-int8.bin"
_ACTIVATIONS = frozenset(
    {"gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_python", "relu", "tanh", "sigmoid"}
)
_SIZE_KEYS = ("hidden_size", "dim", "d_model", "n_embd")


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseConfig:
    """A linear layer after pooling; `folder` holds its weights."""

    folder: str
    out_features: int
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One text-embedding model, as its files describe it.

    `plain` is False where a module is in use that only sentence-transformers can run.
    """

    encoder: Mapping[str, Any]
    max_tokens: int | None
    dimensions: int
    pooling: tuple[str, ...] = ("mean",)
    dense: tuple[DenseConfig, ...] = ()
    normalize: bool = False
    lower_case: bool = False
    plain: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_type(self) -> str:
        """The encoder's family, as transformers calls it."""
        return str(self.encoder.get("model_type", ""))

    @property
    def pad_id(self) -> int:
        """The token id that fills up shorter texts of a batch."""
        return int(self.encoder.get("pad_token_id") or 0)

    @property
    def activation(self) -> str:
        """The feed-forward layers' activation, as transformers calls it."""
        return str(
            self.encoder.get("hidden_act", self.encoder.get("activation", "gelu"))
        )

    @property
    def buildable(self) -> bool:
        """Whether a graph can be built: known family and activation, absolute positions, plain modules."""
        return (
            self.plain
            and self.model_type in FAMILIES
            and self.activation in _ACTIVATIONS
            and self.encoder.get("position_embedding_type", "absolute")
            in (None, "absolute")
            and not self.encoder.get("sinusoidal_pos_embds", False)
            and not self.encoder.get("is_decoder", False)
        )

    def prompt(self, input_type: str) -> str:
        """Return the text to put before a query or document; empty without one.

        The order of names is sentence-transformers' in encode_query and encode_document. Its `default_prompt_name`
        plays no part in those: both always name a prompt, if only an empty one.
        """
        names = (
            ("query",) if input_type == "query" else ("document", "passage", "corpus")
        )
        # sentence-transformers 6 itself never gets as far as "passage", since it holds an empty "document" for every
        # model. A model that names its document prompt "passage" was trained with it, so here it is used.
        return next(
            (self.prompts[name] for name in names if self.prompts.get(name)), ""
        )


def read_model_config(folder: Path) -> ModelConfig:
    """Read a model folder's own description. Raises ProviderMisconfigured where it is absent or makes no sense."""
    try:
        return _read(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProviderMisconfigured(
            f"The model files in {folder} are incomplete or not understood."
        ) from error


def _read(folder: Path) -> ModelConfig:
    encoder = _json(folder / "config.json")
    transformer = _optional_json(folder / "sentence_bert_config.json")
    pooling: tuple[str, ...] = ("mean",)
    dense: list[DenseConfig] = []
    normalize, plain = False, True
    width = next(int(encoder[key]) for key in _SIZE_KEYS if key in encoder)
    modules = _optional_json(folder / "modules.json")
    for module in modules or [{"path": "", "type": "Transformer"}]:
        kind, path = str(module["type"]).rsplit(".", 1)[-1], _below(str(module["path"]))
        if kind == "Pooling":
            pooling, understood = _pooling(_json(folder / path / "config.json"))
            plain, width = plain and understood, width * len(pooling)
        elif kind == "Dense":
            layer, understood = _dense(path, _json(folder / path / "config.json"))
            dense.append(layer)
            plain, width = plain and understood and not normalize, layer.out_features
        elif kind == "Normalize":
            normalize = True
        else:
            plain = plain and kind == "Transformer" and path == ""
    return ModelConfig(
        encoder=encoder,
        max_tokens=_max_tokens(
            encoder, transformer, _optional_json(folder / "tokenizer_config.json")
        ),
        dimensions=width,
        pooling=pooling,
        dense=tuple(dense),
        normalize=normalize,
        lower_case=bool(transformer.get("do_lower_case", False)),
        plain=plain,
        prompts=_prompts(folder),
    )


def _below(path: str) -> str:
    """Return a module's path, which may not lead out of the model's folder."""
    if path.startswith("/") or ".." in Path(path).parts:
        raise ValueError(path)
    return path


def _pooling(config: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    named = config.get("pooling_mode")
    if named is None:
        modes = tuple(
            mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)
        ) or ("mean",)
    else:
        modes = (named,) if isinstance(named, str) else tuple(named)
    understood = bool(config.get("include_prompt", True)) and set(modes) <= set(
        POOLING_MODES
    )
    return modes, understood


def _dense(path: str, config: Mapping[str, Any]) -> tuple[DenseConfig, bool]:
    activation = str(
        config.get("activation_function", "torch.nn.modules.activation.Tanh")
    ).rsplit(".", 1)[-1]
    inputs = (
        config.get("module_input_name", "sentence_embedding"),
        config.get("module_output_name"),
    )
    understood = (
        activation in ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid")
        and not config.get("use_residual", False)
        and inputs[0] == "sentence_embedding"
        and inputs[1] in (None, "sentence_embedding")
    )
    return DenseConfig(
        folder=path, out_features=int(config["out_features"]), activation=activation
    ), understood


def _max_tokens(
    encoder: Mapping[str, Any],
    transformer: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
) -> int | None:
    positions = encoder.get("max_position_embeddings")
    if positions is not None and encoder.get("model_type") in POSITIONS_AFTER_PADDING:
        positions = int(positions) - int(encoder.get("pad_token_id", 1)) - 1
    named = transformer.get("max_seq_length") or tokenizer.get("model_max_length")
    limits = [
        int(limit)
        for limit in (positions, named)
        if isinstance(limit, int | float) and 0 < limit < 1e9
    ]
    return min(limits, default=None)


def _prompts(folder: Path) -> dict[str, str]:
    prompts = (
        _optional_json(folder / "config_sentence_transformers.json").get("prompts")
        or {}
    )
    return {str(name): str(text) for name, text in prompts.items() if text}


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def _optional_json(path: Path) -> Any:
    return _json(path) if path.is_file() else {}
