"""Read what a folder's JSON files say, and refuse by ProviderMisconfigured what is of another shape than it must be."""

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from providers.engine.graph import settings
from providers.engine.graph.settings import Unbuildable
from providers.exceptions import ProviderMisconfigured

TOKENIZER_FILE = "tokenizer.json"

_P = ParamSpec("_P")
_R = TypeVar("_R")


def refused(reason: str) -> ProviderMisconfigured:
    """Return the error that says why a model is none to serve."""
    return ProviderMisconfigured(f"The model cannot be served: {reason}.")


def refusing(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a function of the graph package raise ProviderMisconfigured instead of Unbuildable."""

    @wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except Unbuildable as error:
            raise refused(str(error)) from error

    return called


size = refusing(settings.size)
load = refusing(settings.load)
object_of = refusing(settings.object_of)


def flag(config: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Return a setting that is true or false; null means the default."""
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise refused(f"{name} in its settings is neither true nor false")
    return value


def optional_object(path: Path) -> dict[str, Any]:
    """Read a file that may be absent, which is an empty object."""
    return object_of(path) if path.is_file() else {}
