"""An answer is described once, by the dataclass that is sent: from it come its OpenAPI 3.0 schema and its JSON.

A field's name with a last underscore (`from_`) loses it. `TypedDict`s have a schema, too: for what must be fast.
"""

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import orjson

T = TypeVar("T")
Schema = dict[str, Any]

LEFT_OUT = object()
LeftOut = Annotated[T | None, LEFT_OUT]  # not in the answer while it is None

SCALARS: Mapping[Any, Schema] = {
    Any: {},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Decimal: {"type": "number"},
    bool: {"type": "boolean"},
    date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"},
}
OPTIONS = (
    orjson.OPT_SERIALIZE_NUMPY
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_OMIT_MICROSECONDS
    | orjson.OPT_UTC_Z
)


def as_json(data: Any) -> bytes:
    """Return dataclasses, plain data and numpy arrays as JSON: times to the second, float32 as its shortest decimal."""
    return orjson.dumps(data, default=_default, option=OPTIONS)


def plain(data: Any) -> Any:
    """Return `data` as whoever reads its JSON has it."""
    return orjson.loads(as_json(data))


def filled(shape: type[T], source: Any, **given: Any) -> T:
    """Return a `shape` whose fields are the attributes of `source` with the same names, but for those `given`."""
    names = [name for name, _, _ in _written(shape) if name not in given]
    return shape(**given, **{name: getattr(source, name) for name in names})


def schema_of(hint: Any) -> Schema:
    """Return the schema of what has this type. Raises KeyError for a type that answers do not hold."""
    if is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        parts = {name: (hints[field], out) for field, name, out in _written(hint)}
        return _object(parts)
    if is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        left_out = hint.__optional_keys__
        return _object({name: (hints[name], name in left_out) for name in hints})
    if make := BY_ORIGIN.get(get_origin(hint)):
        return make(*get_args(hint))
    return dict(SCALARS[hint])


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if not is_dataclass(value):
        raise TypeError
    return {
        name: found
        for field, name, may_lack in _written(type(value))
        if (found := getattr(value, field)) is not None or not may_lack
    }


def _fields_of(shape: Any) -> tuple[tuple[str, str, bool], ...]:
    """Return of each field its name, its name in JSON, and whether it is left out while it is None."""
    hints = get_type_hints(shape, include_extras=True)
    return tuple(
        (
            field.name,
            field.name.removesuffix("_"),
            LEFT_OUT in get_args(hints[field.name]),
        )
        for field in fields(shape)
    )


_written: Callable[[Any], tuple[tuple[str, str, bool], ...]] = functools.cache(
    _fields_of
)


def _object(parts: Mapping[str, tuple[Any, bool]]) -> Schema:
    return {
        "type": "object",
        "required": [name for name, (_, left_out) in parts.items() if not left_out],
        "properties": {name: schema_of(hint) for name, (hint, _) in parts.items()},
    }


def _annotated(hint: Any, *extras: Any) -> Schema:
    schema = schema_of(hint)
    for extra in extras:
        if extra is LEFT_OUT:
            schema.pop("nullable")
        else:
            schema |= extra
    return schema


def _union(*hints: Any) -> Schema:
    schemas = [schema_of(hint) for hint in hints if hint is not types.NoneType]
    schema = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
    return {**schema, "nullable": True} if types.NoneType in hints else schema


def _list(item: Any, *_: Any) -> Schema:
    return {"type": "array", "items": schema_of(item)}


def _mapping(_: Any, value: Any) -> Schema:
    return {"type": "object", "additionalProperties": schema_of(value) or True}


BY_ORIGIN: Mapping[Any, Callable[..., Schema]] = {
    Annotated: _annotated,
    Literal: lambda *words: {"type": "string", "enum": list(words)},
    Union: _union,
    types.UnionType: _union,
    list: _list,
    tuple: _list,
    dict: _mapping,
    Mapping: _mapping,
}
