"""Read what a folder's JSON files say, and refuse by ProviderMisconfigured what is of another shape than it must be."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from providers.exceptions import ProviderMisconfigured

_MOST = 1 << 24  # no size in a real config.json comes near
_MOST_BYTES = 1 << 24


def size(
    config: Mapping[str, Any], names: Sequence[str], file: str = "config.json"
) -> int:
    """Return the first of these settings, a whole number above 0. Raises where there is none."""
    for name in names:
        if name in config:
            value = config[name]
            if is_whole(value) and 0 < value <= _MOST:
                return int(value)
            raise refused(f"{name} in its {file} is not a size")
    raise refused(f"its {file} does not say {' or '.join(names)}")


def is_whole(value: object) -> bool:
    """Whether JSON's value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def flag(config: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Return a setting that is true or false; null means the default."""
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise refused(f"{name} in its settings is neither true nor false")
    return value


def object_of(path: Path) -> dict[str, Any]:
    """Read a file that must be there and hold an object."""
    content = load(path)
    if not isinstance(content, dict):
        raise refused(f"its {path.name} is not a JSON object")
    return content


def optional_object(path: Path) -> dict[str, Any]:
    """Read a file that may be absent, which is an empty object."""
    return object_of(path) if path.is_file() else {}


def load(path: Path) -> Any:
    """Read a JSON file that must be there."""
    # Looked at before it is read: a pipe would never end, and no description is this large.
    if not path.is_file():
        raise refused(f"it has no {path.name}: it is not a model this server can run")
    if path.stat().st_size > _MOST_BYTES:
        raise refused(f"its {path.name} is larger than {_MOST_BYTES >> 20} MB")
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise refused(f"its {path.name} is no JSON that can be read") from error


def refused(reason: str) -> ProviderMisconfigured:
    """Return the error that says why a model is none to serve."""
    return ProviderMisconfigured(f"The model cannot be served: {reason}.")
