"""The built-in providers as their classes declare themselves, read from the source: importing one takes numpy and HTTP.

So the settings may know names, variables and fallbacks, and a new provider is one file in `providers/plugins/`.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).parent / "plugins"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltIn:
    """Class attributes of one built-in, under their own names; `Provider` and `RemoteProvider` say what they mean."""

    place: str
    name: str
    order: int = 100
    fallback: tuple[str, ...] = ()
    key_variable: str = ""
    other_key_variables: tuple[str, ...] = ()
    url_variable: str = ""
    largest_batch: int = 0
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def batch_variable(self) -> str:
        """Name of the variable with the texts in one call at most; empty where that cannot be set."""
        return f"{self.name.upper()}_BATCH_SIZE" if self.largest_batch else ""

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of environment variables; a local provider has none."""
        keys = (self.key_variable, *self.other_key_variables)
        named = (*keys, self.url_variable, self.batch_variable)
        return tuple(name for name in (*named, *self.choices) if name)


def option_of(variable: str, provider: str) -> str:
    """Return the option that one of a provider's `choices` sets: `kind` for LOCAL_API_KIND."""
    return variable.removeprefix(f"{provider.upper()}_").lower()


@cache
def built_in(folder: Path = PLUGINS) -> tuple[BuiltIn, ...]:
    """Return all of them, in the order in which they are listed."""
    declared = [one for path in folder.rglob("*.py") for one in _declared(path, folder)]
    return tuple(sorted(declared, key=lambda one: (one.order, one.name)))


def _declared(path: Path, folder: Path) -> Iterator[BuiltIn]:
    """Yield the providers of one module: its classes that are called SomethingProvider and have a `name`."""
    module = ".".join(path.relative_to(folder.parents[1]).with_suffix("").parts)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Provider"):
            place = f"{module}:{node.name}"
            attributes = _attributes(node, place)
            if "name" in attributes:
                yield BuiltIn(place=place, **attributes)


def _attributes(node: ast.ClassDef, place: str) -> dict[str, Any]:
    known, found = {one.name for one in fields(BuiltIn)} - {"place"}, {}
    for line in node.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value:
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            if isinstance(target, ast.Name) and target.id in known:
                found[target.id] = _literal(line.value, f"{target.id} of {place}")
    return found


def _literal(value: ast.expr, where: str) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError as error:
        raise TypeError(
            f"{where} must be a literal: it is read without importing the module."
        ) from error
