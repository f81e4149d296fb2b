"""The operator's own model folders: where they lie, and which model each of them is. Standard library only.

A folder with config.json or modules.json is the model of its name. `owner--name`, and `name` inside of `owner`, is the
hub's owner/name, and so is a snapshot in a hub's cache, which lies below `models--owner--name`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from providers.engine.model_config import read_model_config
from providers.exceptions import ProviderMisconfigured

SETTING = "EMBEDDINGS_MODEL_PATHS"
_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?"
)
_MARKS = ("config.json", "modules.json")
_CACHED = "models--"
# What a hub's cache holds besides models.
_CACHED_OTHERS = ("datasets--", "spaces--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What an operator should know of a folder. `fatal`: a setting is wrong, or which model is meant is not clear."""

    message: str
    fatal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolders:
    """The operator's models by name. Of two folders of one name the first counts, and that is a problem."""

    by_name: Mapping[str, Path]
    problems: tuple[Problem, ...]


def valid_name(name: str) -> bool:
    """Whether a name may become a path or a hub's repository: no traversal, no odd characters."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def find_model_folders(parent: Path, paths: Sequence[Path]) -> ModelFolders:
    """Find the models below `parent`, which need not exist, and at or below each of `paths`."""
    found, problems = _below(parent)
    for path in paths:
        here, more = _at_or_below(path)
        found += here
        problems += more
    by_name: dict[str, Path] = {}
    for name, folder in found:
        other = by_name.setdefault(name, folder)
        if not valid_name(name):
            del by_name[name]
            problems.append(
                Problem(
                    message=f"{folder} has no name for a model: {name!r}. Rename the folder."
                )
            )
        elif not _same(other, folder):
            message = f"Two folders hold a model {name}: {other} and {folder}. Rename or remove one of them."
            problems.append(Problem(message=message, fatal=True))
    return ModelFolders(by_name=by_name, problems=tuple(problems))


def unreadable(folders: ModelFolders) -> Iterator[Problem]:
    """Read what each folder says of itself, and yield those that are no models this server knows."""
    for folder in folders.by_name.values():
        try:
            read_model_config(folder)
        except ProviderMisconfigured as error:
            yield Problem(message=f"{folder}: {error.message}")


_Found = tuple[list[tuple[str, Path]], list[Problem]]


def _at_or_below(path: Path) -> _Found:
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        return [], [Problem(message=f"{path}, named in {SETTING}, {what}.", fatal=True)]
    at = _at(path)
    if at is not None:
        return at
    found, problems = _below(path)
    if not found and not problems:
        problems = [
            Problem(
                message=f"{path}, named in {SETTING}, holds no model: no folder there has a config.json."
            )
        ]
    return found, problems


def _below(parent: Path) -> _Found:
    """Return the models that are folders of `parent` or of a folder there, which is their owner's."""
    found: list[tuple[str, Path]] = []
    problems: list[Problem] = []
    for folder in _folders_in(parent):
        if folder.name.startswith(_CACHED_OTHERS):
            continue
        here, more = _at(folder) or _of_owner(folder)
        if not here and not more:
            more = [Problem(message=f"{folder} is no model: it has no config.json.")]
        found += here
        problems += more
    return found, problems


def _of_owner(owner: Path) -> _Found:
    found: list[tuple[str, Path]] = []
    problems: list[Problem] = []
    for folder in _folders_in(owner):
        here, more = _at(folder) or ([], [])
        found += [
            (name if "/" in name else f"{owner.name}/{name}", path)
            for name, path in here
        ]
        problems += more
    return found, problems


def _at(folder: Path) -> _Found | None:
    """Return the model that `folder` itself is; None where it is none."""
    if folder.name.startswith(_CACHED):
        snapshot = _snapshot(folder)
        if snapshot is not None:
            return [(_hub_name(folder), snapshot)], []
        message = f"{folder} has no snapshot that its refs/main names: name one of its snapshots in {SETTING}."
        return [], [Problem(message=message)]
    if not any(_is_file(folder / mark) for mark in _MARKS):
        return None
    cached = folder.parent.parent
    if folder.parent.name == "snapshots" and cached.name.startswith(_CACHED):
        return [(_hub_name(cached), folder)], []
    return [(folder.name.replace("--", "/", 1), folder)], []


def _snapshot(cached: Path) -> Path | None:
    """Return the snapshot of a hub's cache that counts: that of the branch main, else the only one."""
    snapshots = {folder.name: folder for folder in _folders_in(cached / "snapshots")}
    try:
        commit = (cached / "refs" / "main").read_text().strip()
    except (OSError, ValueError):
        commit = next(iter(snapshots)) if len(snapshots) == 1 else ""
    return snapshots.get(commit)


def _hub_name(cached: Path) -> str:
    return cached.name.removeprefix(_CACHED).replace("--", "/", 1)


def _folders_in(parent: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in parent.iterdir()
            if not path.name.startswith(".") and path.is_dir()
        )
    except OSError:  # absent, or not to be read
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a folder that is not to be read
        return False


def _same(one: Path, other: Path) -> bool:
    return one == other or one.resolve() == other.resolve()
