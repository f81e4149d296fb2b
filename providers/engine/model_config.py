"""What a model folder says of itself, read from its own JSON files. Standard library only.

Formats: transformers' config.json, and sentence-transformers' modules.json, N_Pooling/config.json, N_Dense/config.json,
sentence_bert_config.json and config_sentence_transformers.json, in their older and newer spellings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from providers.engine.described import (
    TOKENIZER_FILE,
    flag,
    object_of,
    optional_object,
    refused,
    size,
)
from providers.engine.graph.architectures import (
    HIDDEN_SIZE,
    POSITIONS_AFTER_PADDING,
)
from providers.engine.graph.config import GraphConfig
from providers.engine.graph.settings import is_whole
from providers.engine.modules import (
    Head,
    Module,
    default_modules,
    read_modules,
)
from providers.engine.static_config import (
    MODEL2VEC_MAX_TOKENS,
    StaticConfig,
    truncation_of,
)

# sentence-transformers looks for the first of these that is there.
_TRANSFORMER_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in [
        "bert",
        "roberta",
        "distilbert",
        "camembert",
        "albert",
        "xlm-roberta",
        "xlnet",
    ]
)
# What else those files may say and no runtime but sentence-transformers' own heeds.
_TRANSFORMER_EXTRAS = (
    "config_args",
    "config_kwargs",
    "query_expansion",
    "tokenizer_name_or_path",
)
_TOKENIZER_EXTRAS = ("tokenizer_args", "processor_kwargs")
# Tokenizer settings that change nothing here: limits are enforced and rows padded by this server.
_HARMLESS_TOKENIZER_KEYS = frozenset(
    {"model_max_length", "max_length", "padding_side", "trust_remote_code", "use_fast"}
)
# Remote code that is not needed: transformers has it as a class of its own, and graphs are built of that.
_KNOWN_CODE = {"nomic_bert": "nomic-ai/nomic-bert-2048--"}
_TASK_HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)


class Kind(StrEnum):
    """What a model is for. Only embedding models are served; a reranker gives a score for a query and a text."""

    EMBEDDING = "embedding"
    RERANKER = "reranker"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig(GraphConfig):
    """One text-embedding model, as the files in `folder` describe it.

    `foreign`: what in its files only sentence-transformers can run; `foreign_module`: the same, where that is a module
    of its own, which an export takes along. `onnx_only`: why its checkpoint cannot be run here, though an ONNX file
    could. `static`: of a model that has a vector for each token and no encoder.
    """

    folder: Path
    max_tokens: int | None
    lower_case: bool = False
    foreign: str | None = None
    foreign_module: str | None = None
    onnx_only: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    static: StaticConfig | None = None
    kind: Kind = Kind.EMBEDDING

    @property
    def tokenizer_file(self) -> str:
        """The tokenizer, relative to the model's folder."""
        return self.static.tokenizer_file if self.static else TOKENIZER_FILE

    @property
    def buildable(self) -> bool:
        """Whether a graph can be built: a supported encoder, plain modules."""
        return (
            self.foreign is None
            and self.onnx_only is None
            and self.supported
            # Without its prompt, a text is pooled outside of the graph, where no Dense of a built one is read.
            and (self.include_prompt or not self.dense)
        )

    @property
    def halved(self) -> bool:
        """Whether its checkpoint takes two bytes a number, four in memory."""
        stored = self.encoder.get("dtype", self.encoder.get("torch_dtype"))
        return stored in ("float16", "bfloat16")

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


def read_model_config(folder: Path, *, fetched: bool = True) -> ModelConfig:
    """Read a model folder's own description. Raises ProviderMisconfigured, saying why, where it is none to serve.

    `fetched` False: weights may be absent, and with a static model's table its dimensions.
    """
    try:
        return _read(folder, fetched=fetched)
    # Any folder may be asked about: whatever its JSON looks like, a start goes on.
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        AttributeError,
    ) as error:
        raise refused("its files are incomplete or not understood") from error


def _read(folder: Path, *, fetched: bool) -> ModelConfig:
    modules = read_modules(folder)
    _refuse_adapters(folder)
    if modules and modules[0].static:
        return _read_static(folder, modules, fetched=fetched)
    encoder = object_of(folder / "config.json")
    if _is_model2vec(encoder):
        return _read_model2vec(folder, encoder, modules, fetched=fetched)
    _refuse_other_kinds(folder, encoder, has_modules=bool(modules))
    transformer = next(
        (
            found
            for name in _TRANSFORMER_FILES
            if (found := optional_object(folder / name))
        ),
        {},
    )
    tokenizer = optional_object(folder / "tokenizer_config.json")
    _refuse_foreign_tokenizers(tokenizer)
    _check_numbers(encoder)
    head = Head(folder, size(encoder, HIDDEN_SIZE))
    for module in modules or default_modules(encoder):
        head.take(module)
    return ModelConfig(
        folder=folder,
        encoder=encoder,
        max_tokens=_max_tokens(encoder, transformer, tokenizer),
        pooling=head.pooling,
        include_prompt=head.include_prompt,
        dense=tuple(head.dense),
        normalize=head.normalize,
        lower_case=flag(transformer, "do_lower_case", default=False),
        foreign=_foreign_settings(transformer) or head.foreign,
        foreign_module=head.foreign,
        onnx_only=_onnx_only(encoder, modules),
        prompts=_prompts(optional_object(folder / "config_sentence_transformers.json")),
    )


def _read_static(
    folder: Path, modules: Sequence[Module], *, fetched: bool
) -> ModelConfig:
    """Read a folder whose modules.json begins with StaticEmbedding; what follows may be Dense and Normalize."""
    static = StaticConfig(folder=modules[0].path)
    tokenizer = folder / static.tokenizer_file
    encoder = _table_of(folder, static, fetched=fetched)
    head = Head(folder, encoder.get("hidden_size"))
    head.pooling = ("mean",)
    for module in modules:
        head.take(module)
    if head.foreign:
        raise refused(f"it is a static model with {head.foreign}")
    return ModelConfig(
        folder=folder,
        encoder=encoder,
        max_tokens=truncation_of(tokenizer) if tokenizer.is_file() else None,
        pooling=head.pooling,
        dense=tuple(head.dense),
        normalize=head.normalize,
        prompts=_prompts(optional_object(folder / "config_sentence_transformers.json")),
        static=static,
    )


def _read_model2vec(
    folder: Path,
    config: Mapping[str, Any],
    modules: Sequence[Module],
    *,
    fetched: bool,
) -> ModelConfig:
    """Read a folder of model2vec's that sentence-transformers cannot load."""
    if modules:
        raise refused(
            f"its config.json is a static model's (model2vec), and its modules.json begins with {modules[0].kind[:40]}"
        )
    limit = config.get("max_length", MODEL2VEC_MAX_TOKENS)
    if limit is not None and not (is_whole(limit) and limit > 0):
        raise refused("max_length in its config.json is not a number of tokens")
    static = StaticConfig(drops_unknown=True)
    return ModelConfig(
        folder=folder,
        encoder=_table_of(folder, static, fetched=fetched),
        max_tokens=limit,
        normalize=flag(config, "normalize", default=False),
        static=static,
    )


def _is_model2vec(config: Mapping[str, Any]) -> bool:
    # model2vec writes the numbers' kind whatever else it was given for a config.json.
    kind = config.get("model_type", "model2vec" if "embedding_dtype" in config else "")
    return kind == "model2vec" or "StaticModel" in (config.get("architectures") or ())


def _table_of(
    folder: Path, static: StaticConfig, *, fetched: bool
) -> Mapping[str, Any]:
    """Return what a config.json would say of the table's width; nothing before it is fetched."""
    if not fetched and not (folder / static.weights_file).is_file():
        return {}
    return {"hidden_size": static.width(folder)}


def _refuse_adapters(folder: Path) -> None:
    if (folder / "adapter_config.json").is_file():
        raise refused(
            "it is an adapter (PEFT) of another model: merge the two and save the whole model"
        )


def _refuse_other_kinds(
    folder: Path, encoder: Mapping[str, Any], *, has_modules: bool
) -> None:
    """Raise for models whose vectors are not a text encoder's."""
    if nested := [
        key
        for key in encoder
        if key in ("vision_config", "audio_config", "text_config") and encoder[key]
    ]:
        raise refused(
            f"it is a multimodal model such as CLIP ({nested[0]} in its config.json), and this server embeds text alone"
        )
    kind = optional_object(folder / "config_sentence_transformers.json").get(
        "model_type"
    )
    named = map(str, encoder.get("architectures") or ())
    head = next((name for name in named if name.endswith(_TASK_HEADS)), None)
    if _kind(kind, head, has_modules=has_modules) is Kind.RERANKER:
        raise refused(
            f"it is a reranker or classifier ({str(head or kind)[:60]}), not an embedding model: its token vectors "
            "were not trained to be compared"
        )
    if kind not in (None, "SentenceTransformer"):
        raise refused(f"it is a {str(kind)[:40]}, which gives no dense text vectors")


def _kind(library: Any, head: str | None, *, has_modules: bool) -> Kind:
    """Return what a model is for. `library`: what sentence-transformers calls it; `head`: its class of a task."""
    scores = library == "CrossEncoder" or (head is not None and not has_modules)
    return Kind.RERANKER if scores else Kind.EMBEDDING


def _refuse_foreign_tokenizers(tokenizer: Mapping[str, Any]) -> None:
    remote = tokenizer.get("auto_map") or {}
    if not isinstance(remote, dict) or "AutoTokenizer" in remote:
        raise refused("its tokenizer needs remote code, which is never run")


def _onnx_only(encoder: Mapping[str, Any], modules: Sequence[Module]) -> str | None:
    remote = encoder.get("auto_map") or {}
    if not isinstance(remote, dict):
        raise refused("the auto_map of its config.json is not an object")
    known = _KNOWN_CODE.get(str(encoder.get("model_type")))
    if not GraphConfig(encoder=encoder).supported:
        known = None
    if used := [
        name
        for name in ("AutoModel", "AutoConfig")
        if name in remote and not (known and str(remote[name]).startswith(known))
    ]:
        return f"it needs remote code ({used[0]} in config.json's auto_map), which is never run"
    if custom := [module.type for module in modules if module.custom]:
        return f"it needs remote code ({custom[0][:80]} in modules.json), which is never run"
    if encoder.get("quantization_config"):
        return "its checkpoint is quantised (quantization_config in config.json)"
    return None


def _foreign_settings(transformer: Mapping[str, Any]) -> str | None:
    for key in _TRANSFORMER_EXTRAS:
        if transformer.get(key):
            return f"{key} in its sentence_bert_config.json"
    if (
        transformer.get("transformer_task", "feature-extraction")
        != "feature-extraction"
    ):
        return "transformer_task in its sentence_bert_config.json"
    for key in _TOKENIZER_EXTRAS:
        if set(transformer.get(key) or {}) - _HARMLESS_TOKENIZER_KEYS:
            return f"{key} in its sentence_bert_config.json"
    return None


def _check_numbers(encoder: Mapping[str, Any]) -> None:
    """Raise for a setting that is read later and is not the whole number it must be."""
    for name in ("pad_token_id", "vocab_size", "max_position_embeddings"):
        if encoder.get(name) is not None and not is_whole(encoder[name]):
            raise refused(f"{name} in its config.json is not a whole number")


def _max_tokens(
    encoder: Mapping[str, Any],
    transformer: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
) -> int | None:
    positions = encoder.get("max_position_embeddings")
    if positions is not None and encoder.get("model_type") in POSITIONS_AFTER_PADDING:
        positions -= GraphConfig(encoder=encoder).first_position
    named = transformer.get("max_seq_length") or tokenizer.get("model_max_length")
    if not isinstance(named, int | float | None) or isinstance(named, bool):
        raise refused("the limit of tokens in its settings is not a number")
    limits = [
        int(limit)
        for limit in (positions, named)
        if limit is not None and 0 < limit < 1e9
    ]
    return min(limits, default=None)


def _prompts(settings: Mapping[str, Any]) -> dict[str, str]:
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        text is None or isinstance(text, str) for text in prompts.values()
    ):
        raise refused(
            "the prompts in its config_sentence_transformers.json are not texts by name"
        )
    return {name: text for name, text in prompts.items() if text}
