"""Which files of a model's repository or folder it is served from, and by which runtime."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from providers.engine import machine
from providers.engine.described import TOKENIZER_FILE, refused, refusing
from providers.engine.devices import Device
from providers.engine.graph import FAST_GRAPH_FILE, GRAPH_FILE, checkpoint
from providers.engine.graph.checkpoint import SAFETENSORS_FILE, SAFETENSORS_INDEX
from providers.engine.model_config import ModelConfig
from providers.engine.pickled import PICKLED_FILE, PICKLED_INDEX, pickled_files
from providers.engine.static_config import StaticConfig

# The first that is there is taken; exporters write both layouts. Up to level 3, optimised graphs compute in float32.
ONNX_FILES = (
    "onnx/model.onnx",
    "model.onnx",
    *(
        f"{folder}model_O{level}.onnx"
        for level in (1, 2, 3)
        for folder in ("onnx/", "")
    ),
)
# Written by torch.onnx when a model is prepared. Another version: other vectors.
EXPORT_VERSION = 1
EXPORTED_FILE = f"export-v{EXPORT_VERSION}.onnx"
EXPORTED_DATA = f"{EXPORTED_FILE}.data"
# The runtimes that run an ONNX file; static and torch have none.
HAVE_GRAPHS = ("graph", "exported", "onnx")
# What is written beside any graph: its products in int8, the faster first; of those for a device, in float16.
METHODS = ("int8-static", "int8-weights")
HALF = "fp16"
# How the names of those graphs begin that are made here, whole: normalising included.
WHOLE = ("graph-v", "export-v")
_REWRITTEN = re.compile(rf"-({'|'.join((*METHODS, HALF))})\.(onnx|bin)$")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

NEEDS_TORCH = (
    "it can only run on torch: install it with `pip install 'embeddings-server[torch]'`"
)

_checkpoint_files = refusing(checkpoint.checkpoint_files)


def weight_files(
    config: ModelConfig, folder: Path, names: Collection[str]
) -> list[str]:
    """Return the safetensors of a model, that it is loaded from, or pickled weights that these are made of.

    Raises ProviderMisconfigured.
    """
    if config.static is not None:
        return [config.static.weights_file]
    tables = [
        f"{layer.folder}/{PICKLED_FILE}"
        for layer in config.dense
        if f"{layer.folder}/{SAFETENSORS_FILE}" not in names
    ]
    dense = [name for name in tables if name in names and machine.has_torch()]
    if not has_checkpoint(names) and is_convertible(names):
        return [*pickled_files(folder), *dense]
    return [*_checkpoint_files(folder, names), *dense]


def choose_runtime(config: ModelConfig, names: Collection[str]) -> str:
    """Return static (a table of vectors), graph (built here), onnx (shipped) or torch for a model of these files.

    Raises ProviderMisconfigured, saying why, where none of them can serve it on this machine.
    """
    if config.static is not None:
        _check_static(config.static, names)
        return "static"
    has_tokenizer = TOKENIZER_FILE in names
    weights, convertible = has_checkpoint(names), is_convertible(names)
    exported = onnx_file(names)
    if weights and has_tokenizer and config.buildable:
        return "graph"
    if exported and has_tokenizer and config.foreign is None:
        return "onnx"
    if exported and not (weights or convertible):
        lack = config.foreign or f"there is no {TOKENIZER_FILE}"
        raise refused(
            f"its ONNX file cannot be used ({lack}), and it has no safetensors"
        )
    if config.onnx_only is not None:
        raise refused(f"{config.onnx_only}, and it has no ONNX file that can be used")
    if not (weights or convertible):
        raise refused(_why_no_weights(names))
    return "graph" if has_tokenizer and config.buildable else _torch(config)


def _torch(config: ModelConfig) -> str:
    if not machine.has_torch():
        why = config.foreign or config.unsupported
        raise refused(f"{NEEDS_TORCH} ({why})" if why else NEEDS_TORCH)
    return "torch"


def _check_static(static: StaticConfig, names: Collection[str]) -> None:
    for needed in (static.tokenizer_file, static.weights_file):
        if needed not in names:
            raise refused(f"it is a static model, and there is no {needed}")


def has_checkpoint(names: Collection[str]) -> bool:
    """Whether there are safetensors under the names that every loader takes."""
    return SAFETENSORS_FILE in names or SAFETENSORS_INDEX in names


def is_convertible(names: Collection[str]) -> bool:
    """Whether there are pickled weights, and torch to make safetensors of them."""
    return machine.has_torch() and bool({PICKLED_FILE, PICKLED_INDEX} & {*names})


def onnx_file(names: Collection[str]) -> str | None:
    """Return the exported graph to run, or None."""
    return next((name for name in ONNX_FILES if name in names), None)


def served_file(runtime: str, names: Collection[str]) -> str:
    """Return the exact graph that a runtime (graph, exported or onnx) runs; it must be there."""
    own = {"graph": GRAPH_FILE, "exported": EXPORTED_FILE}
    candidates = (own[runtime],) if runtime in own else ONNX_FILES
    return next(name for name in candidates if name in names)


def rewritten_file(graph: str, method: str) -> str:
    """Return the name of what is written beside a graph with its products by `method`."""
    return f"{graph.removesuffix('.onnx')}-{method}.onnx"


def fast_files(graph: str, device: Device) -> Mapping[str, str]:
    """Return the method by file, of all files that can serve the fast class beside an exact graph on a device."""
    if device.is_cuda:
        return {rewritten_file(graph, HALF): HALF}
    built = {FAST_GRAPH_FILE: "int8-static"} if graph == GRAPH_FILE else {}
    return built | {rewritten_file(graph, method): method for method in METHODS}


def is_made_here(name: str) -> bool:
    """Whether a file is one that preparation writes, and not the repository's."""
    return name.startswith(WHOLE) or bool(_REWRITTEN.search(name))


def parameters_beside(graph: str) -> tuple[str, ...]:
    """Return the names of the files that may hold the parameters of a graph made here."""
    return f"{graph.removesuffix('.onnx')}.bin", f"{graph}.data"


def data_files(graph: Path, name: str) -> list[str]:
    """Return the files that hold an exported graph's parameters, relative to the model as `name`, the graph's, is.

    They are called whatever the exporter liked, so the graph itself is asked. Raises ProviderMisconfigured.
    """
    # Imported here: it is needed to prepare a model, not to serve one.
    import onnx

    try:
        model = onnx.load(graph, load_external_data=False)
    except Exception as error:  # protobuf's errors share no base but this
        raise refused(f"its {name} is damaged or no ONNX file") from error
    folder = PurePosixPath(name).parent
    found = set()
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                found.add(_beside(folder, entry.value, name))
    return sorted(found)


def _beside(folder: PurePosixPath, location: str, name: str) -> str:
    path = PurePosixPath(location)
    if path.is_absolute() or ".." in path.parts or "\\" in location or not location:
        raise refused(f"its {name} names a data file outside of its folder")
    return (folder / path).as_posix()


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor below a protobuf message: initialisers, attributes, those of nested graphs and functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in (value,) if hasattr(value, "ListFields") else value:
            if field.message_type.name == "TensorProto":
                yield part
            else:
                yield from _tensors(part)


def _why_no_weights(names: Collection[str]) -> str:
    if others := sorted(name for name in names if name.endswith(".onnx")):
        return (
            f"of ONNX files it has only {others[0][:80]}, and a quantised or converted one gives other vectors, often "
            "others in every batch: export it in float32 as model.onnx"
        )
    if pickled := sorted(
        name for name in names if name.endswith(_PICKLED) and "/" not in name
    ):
        return (
            f"it has only pickled weights ({pickled[0][:80]}), which torch has to convert: "
            "install it with `pip install 'embeddings-server[torch]'`, or convert them to safetensors yourself"
        )
    if others := sorted(name for name in names if name.endswith(".safetensors")):
        return f"it has neither {SAFETENSORS_FILE} nor its index; {others[0][:80]} is not read"
    return "it has neither safetensors nor ONNX files"
