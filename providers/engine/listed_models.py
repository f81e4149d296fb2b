"""Models that are listed before anything is downloaded: catalogue.json, with what each model's card and files say.

A field that could not be checked is left out there. `common_names` are those that other tools made common (Ollama's),
of the very same model; `stored` is the kind of numbers in the hub's file.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from providers.base import ModelCard, ModelSpec, Sizes
from providers.engine.pins import DEFAULT_MODEL, MINILM
from providers.engine.space import disk_bytes

_CATALOGUE = Path(__file__).with_name("catalogue.json")
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@cache
def catalogue() -> Mapping[str, ModelSpec]:
    """Return the models by name, none of them prepared."""
    entries: list[dict[str, Any]] = json.loads(_CATALOGUE.read_bytes())
    return {entry["name"]: _spec(entry) for entry in entries}


def described(spec: ModelSpec, *, prepared: bool) -> ModelSpec:
    """Return `spec` with its short names and, where the catalogue has it, its card and the sizes it may be cut to.

    A bare common name means a model that is prepared; before that, it means whatever an upstream may call so.
    """
    known = catalogue().get(spec.name)
    common = known.common_names if known else ()
    short = tuple(name for name in aliases_of(spec.name) if name not in common)
    return replace(
        spec,
        aliases=(*short, *common) if prepared else short,
        common_names=common,
        card=known.card if known else None,
        native_dimensions=known.card.matryoshka if known and known.card else (),
    )


def aliases_of(name: str) -> tuple[str, ...]:
    """Return the short names of a hub's model: what comes after its owner."""
    _, slash, short = name.partition("/")
    return (short,) if slash else ()


def with_free_aliases(specs: Iterable[ModelSpec]) -> list[ModelSpec]:
    """Leave out the aliases that are the name of another, or the alias of one before."""
    kept = list(specs)
    taken = {spec.name for spec in kept}
    for index, spec in enumerate(kept):
        free = tuple(alias for alias in spec.aliases if alias not in taken)
        taken.update(free)
        kept[index] = replace(spec, aliases=free)
    return kept


def _spec(entry: Mapping[str, Any]) -> ModelSpec:
    name, common = entry["name"], entry.get("common_names", ())
    short = tuple(alias for alias in aliases_of(name) if alias not in common)
    return ModelSpec(
        name=name,
        dimensions=entry["dimensions"],
        max_tokens=entry.get("max_tokens"),
        vector_space=name,
        aliases=short,
        common_names=tuple(
            more
            for each in common
            for more in (each, *([] if ":" in each else [f"{each}:latest"]))
        ),
        card=_card(entry),
        revision=MINILM.sha256[:12] if name == DEFAULT_MODEL else "",
    )


def _card(entry: Mapping[str, Any]) -> ModelCard:
    parameters, sizes = entry["parameters"], entry.get("matryoshka")
    stored = parameters * _BYTES[entry["stored"]]
    return ModelCard(
        parameters=parameters,
        download_bytes=stored,
        disk_bytes=stored if entry.get("static") else disk_bytes(stored, parameters),
        memory_bytes=parameters * _BYTES["float32"],
        licence=entry.get("licence"),
        languages=entry["languages"],
        pooling=entry["pooling"],
        matryoshka=_sizes(sizes),
        query_prompt=entry.get("query_prompt", ""),
        document_prompt=entry.get("document_prompt", ""),
        gated=entry.get("gated", False),
    )


def _sizes(given: Any) -> Sizes:
    if isinstance(given, dict):
        return range(given["minimum"], given["maximum"] + 1)
    return tuple(given or ())
