"""Settings out of a model's JSON files, checked, and what is raised where they are not what they must be.

Standard library only.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MOST = 1 << 24  # no size in a real config.json comes near
_MOST_BYTES = 1 << 24


class Unbuildable(Exception):
    """No graph can be built of a model's files; the text says what is wrong with them."""


def size(
    config: Mapping[str, Any], names: Sequence[str], file: str = "config.json"
) -> int:
    """Return the first of these settings, a whole number above 0. Raises Unbuildable where there is none."""
    for name in names:
        if name in config:
            value = config[name]
            if is_whole(value) and 0 < value <= _MOST:
                return int(value)
            raise Unbuildable(f"{name} in its {file} is not a size")
    raise Unbuildable(f"its {file} does not say {' or '.join(names)}")


def is_whole(value: object) -> bool:
    """Whether JSON's value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def object_of(path: Path) -> dict[str, Any]:
    """Read a JSON file that must be there and hold an object. Raises Unbuildable."""
    content = load(path)
    if not isinstance(content, dict):
        raise Unbuildable(f"its {path.name} is not a JSON object")
    return content


def load(path: Path) -> Any:
    """Read a JSON file that must be there. Raises Unbuildable."""
    # Looked at before it is read: a pipe would never end, and no description is this large.
    if not path.is_file():
        raise Unbuildable(
            f"it has no {path.name}: it is not a model this server can run"
        )
    if path.stat().st_size > _MOST_BYTES:
        raise Unbuildable(f"its {path.name} is larger than {_MOST_BYTES >> 20} MB")
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Unbuildable(f"its {path.name} is no JSON that can be read") from error
