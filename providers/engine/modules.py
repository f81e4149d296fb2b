"""A model's modules after sentence-transformers' modules.json: encoder, pooling, dense layers, normalising."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from providers.engine.described import flag, load, object_of, refused, size
from providers.engine.graph.config import DenseConfig

# In the order in which sentence-transformers concatenates them.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Module:
    """One entry of modules.json; `type` is the class, `kind` its last part."""

    type: str
    path: str
    config: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """The class without its package."""
        return self.type.rsplit(".", 1)[-1]

    @property
    def static(self) -> bool:
        """Whether it is sentence-transformers' StaticEmbedding, which stands in the place of an encoder."""
        return self.kind == "StaticEmbedding" and not self.custom

    @property
    def custom(self) -> bool:
        """Whether the class is not sentence-transformers' own."""
        return not self.type.startswith("sentence_transformers.")


def read_modules(folder: Path) -> list[Module]:
    """Return what modules.json lists, nothing without one. Raises where it starts with anything but an encoder."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    listed = load(path)
    if not isinstance(listed, list) or not listed:
        raise refused("its modules.json is not a list of modules")
    modules = [
        Module(_text(entry, "type"), _below(_text(entry, "path"))) for entry in listed
    ]
    first = modules[0]
    if first.static:
        return modules
    if first.kind == "CLIPModel":
        raise refused(
            "it is a multimodal model (CLIP), and this server embeds text alone"
        )
    if first.kind != "Transformer" and not first.custom:
        raise refused(f"its first module is a {first.kind[:40]}, not a Transformer")
    if first.path:
        raise refused(
            f"its encoder lies in the folder {first.path[:40]}: load it in a current sentence-transformers and save it "
            "again, which puts the encoder at the root"
        )
    if all(module.kind != "Pooling" for module in modules):
        raise refused("its modules.json names no Pooling")
    return modules


def default_modules(encoder: Mapping[str, Any]) -> list[Module]:
    """What sentence-transformers makes of a bare encoder: mean pooling, or the last token of a causal model."""
    architectures = encoder.get("architectures") or [""]
    causal = str(architectures[0]).endswith("ForCausalLM") and encoder.get(
        "is_causal", True
    )
    pooling = {"pooling_mode": "lasttoken" if causal else "mean"}
    own = "sentence_transformers."
    return [
        Module(f"{own}Transformer", ""),
        Module(f"{own}Pooling", "", config=pooling),
    ]


class Head:
    """What comes after the encoder, taken module by module. `hidden` is None while its width is not known."""

    def __init__(self, folder: Path, hidden: int | None) -> None:
        self._folder = folder
        self.width = hidden
        self.pooling: tuple[str, ...] = ()
        self.include_prompt = True
        self.dense: list[DenseConfig] = []
        self.normalize = False
        self.foreign: str | None = None
        self._seen: list[str] = []

    def take(self, module: Module) -> None:
        """Add a module, in the order of modules.json."""
        config = self._folder / module.path / "config.json"
        if not self._seen:
            pass  # the encoder
        elif module.custom:
            self.foreign = f"its module {module.type[:80]}"
        elif module.kind == "Pooling" and not self.pooling and len(self._seen) == 1:
            self._pool(object_of(config) if module.config is None else module.config)
        elif module.kind == "Dense" and self.pooling and not self.normalize:
            self._project(module.path, object_of(config))
        elif module.kind == "Normalize" and self.pooling:
            self.normalize = True
        else:
            self.foreign = f"a module {module.kind[:40]} in this place"
        self._seen.append(module.kind if self._seen else "encoder")

    def _pool(self, config: Mapping[str, Any]) -> None:
        named = config.get("pooling_mode")
        if named is None:
            modes = tuple(
                mode
                for name, mode in _POOLING_FLAGS.items()
                if flag(config, name, default=False)
            ) or ("mean",)
        else:
            modes = (named,) if isinstance(named, str) else tuple(named)
        if unknown := [mode for mode in modes if mode not in _POOLING_FLAGS.values()]:
            raise refused(f"its pooling mode {str(unknown[0])[:40]!r} is unknown")
        if not modes:
            raise refused("its Pooling names no mode")
        self.pooling = modes
        self.include_prompt = flag(config, "include_prompt", default=True)
        if self.width is not None:
            self.width *= len(modes)

    def _project(self, path: str, config: Mapping[str, Any]) -> None:
        named = str(
            config.get("activation_function", "torch.nn.modules.activation.Tanh")
        )
        activation = named.rsplit(".", 1)[-1]
        takes = config.get("module_input_name", "sentence_embedding")
        gives = config.get("module_output_name") or takes
        layer = DenseConfig(
            folder=path,
            in_features=size(config, ("in_features",), f"{path}/config.json"),
            out_features=size(config, ("out_features",), f"{path}/config.json"),
            bias=flag(config, "bias", default=True),
            activation=activation,
        )
        if self.width not in (layer.in_features, None):
            raise refused(
                f"its {path} takes vectors of {layer.in_features} numbers and gets {self.width}"
            )
        if not named.startswith("torch."):
            raise refused(
                f"its {path} needs remote code for its activation, which is never run"
            )
        if activation not in ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid"):
            self.foreign = f"the activation {activation[:40]}"
        if config.get("use_residual") or (takes, gives) != (
            "sentence_embedding",
            "sentence_embedding",
        ):
            self.foreign = f"the layout of its {path}"
        self.dense.append(layer)
        self.width = layer.out_features


def _below(path: str) -> str:
    """Return a module's path, which may not lead out of the model's folder."""
    if path.startswith("/") or ".." in Path(path).parts:
        raise refused(
            "its files are not understood: a module lies outside of the model's folder"
        )
    return "" if path == "." else path.rstrip("/")


def _text(entry: Any, name: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise refused(f"its modules.json has an entry without {name}")
    return value
