"""Documents' metadata: what may be stored, how it is shown, and how a path names a place in it. Plain Python."""

import json
import math
import re
from typing import Any

import orjson

MAX_LEVELS = 32
MAX_BYTES = 2**16  # as JSON
LEAST, MOST = -(2**63), 2**63 - 1
TOO_DEEP = f"must be nested at most {MAX_LEVELS} levels deep."
TOO_LARGE = "must have whole numbers of 64 bits (-2^63 to 2^63-1)."

KEY = re.compile(r"((?:\\[.\\]|[^.])*)(\.|\Z)", re.DOTALL)


def problem_of(metadata: Any) -> str | None:
    """Say what is wrong with `metadata`, or return None."""
    if not isinstance(metadata, dict):
        return "must be a JSON object."
    problem = problem_in(metadata)
    if problem:
        return problem
    try:
        orjson.dumps(metadata)
    except orjson.JSONEncodeError:
        return "must not contain half of a surrogate pair."
    return None


def problem_in(value: Any, level: int = 1) -> str | None:
    """Say which bound `value` is over, or return None."""
    if isinstance(value, dict | list):
        if level > MAX_LEVELS:
            return TOO_DEEP
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        problems = (problem_in(one, level + 1) for one in inner)
        return next((problem for problem in problems if problem), None)
    if isinstance(value, str):
        return "must not contain NUL characters." if "\0" in value else None
    if isinstance(value, int) and not LEAST <= value <= MOST:
        return TOO_LARGE
    if isinstance(value, float) and not math.isfinite(value):
        return "must have finite numbers."
    return None


def number(digits: str) -> int | float:
    """Return the whole number of these digits; as a float where metadata can have no such whole number."""
    whole = int(digits)
    return whole if LEAST <= whole <= MOST else float(whole)


def shown(metadata: Any) -> Any:
    """Return `metadata` as an answer can hold it. What older rows hold beyond the bounds comes as its JSON text."""
    return metadata if problem_of(metadata) is None else _shown_at(metadata, 1)


def keys_of(path: str) -> tuple[str, ...]:
    r"""Return the keys of a path: parted by dots, where `\.` is a dot in a key and `\\` a backslash."""
    keys = []
    for match in KEY.finditer(path):
        keys.append(re.sub(r"\\([.\\])", r"\1", match[1]))
        if not match[2]:
            break
    return tuple(keys)


def _shown_at(value: Any, level: int) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict | list) and level > MAX_LEVELS:
        return json.dumps(value)
    if isinstance(value, dict):
        return {
            _shown_at(key, level): _shown_at(one, level + 1)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_shown_at(one, level + 1) for one in value]
    return json.dumps(value) if problem_in(value, level) else value
