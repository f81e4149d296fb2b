"""Show the local models: those of the catalogue and those prepared here."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.core.management.base import BaseCommand

from embeddings.services.catalog import ModelState, model_states
from providers.models import written_sizes

_COLUMNS = (
    "model",
    "dimensions",
    "tokens",
    "languages",
    "licence",
    "download",
    "memory",
    "state",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One local model. `classes`: by provider, how it is computed; empty where it is not prepared. Null: not known."""

    model: str
    short_names: Sequence[str]
    common_names: Sequence[str]
    dimensions: int | None
    matryoshka: Any
    max_tokens: int | None
    languages: str | None
    licence: str | None
    gated: bool
    pooling: str | None
    parameters: int | None
    download_bytes: int | None
    disk_bytes: int | None
    memory_bytes: int | None
    card_prompts: dict[str, str] | None
    prepared: bool
    runtime: str | None
    classes: dict[str, str]
    problem: str | None


class Command(BaseCommand):
    help = "Show the local models: what each is, what it takes, and whether it is prepared here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="all that is known")
        parser.add_argument(
            "--prepared", action="store_true", help="only those prepared here"
        )

    def handle(self, *, prepared: bool, **options: Any) -> None:
        shown = [one for one in _local_models() if one.prepared or not prepared]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(one) for one in shown], indent=1))
            return
        for line in _table([_COLUMNS, *map(_row, shown)]):
            self.stdout.write(line)


def _local_models() -> list[Shown]:
    by_name: dict[str, list[ModelState]] = {}
    for state in model_states():
        if state.target.provider.local:
            by_name.setdefault(state.target.model.name, []).append(state)
    return [_shown(states) for states in by_name.values()]


def _shown(states: Sequence[ModelState]) -> Shown:
    first = states[0]
    model, card, serving = first.target.model, first.target.model.card, first.serving
    memory = serving.memory_bytes if serving else None
    return Shown(
        model=model.name,
        short_names=[name for name in model.aliases if name not in model.common_names],
        common_names=model.common_names,
        dimensions=model.dimensions,
        matryoshka=written_sizes(card.matryoshka) if card else None,
        max_tokens=model.max_tokens,
        languages=card.languages if card else None,
        licence=card.licence if card else None,
        gated=bool(card and card.gated),
        pooling=card.pooling if card else None,
        parameters=card.parameters if card else None,
        download_bytes=card.download_bytes if card else None,
        disk_bytes=card.disk_bytes if card else None,
        memory_bytes=memory or (card.memory_bytes if card else None),
        card_prompts=_prompts(card.query_prompt, card.document_prompt)
        if card
        else None,
        prepared=bool(first.downloaded),
        runtime=serving.runtime if serving else None,
        classes={
            state.target.provider.name: state.target.model.method
            for state in states
            if state.target.model.method
        },
        problem=first.problem if first.downloaded else None,
    )


def _prompts(query: str, document: str) -> dict[str, str] | None:
    return {"query": query, "document": document} if query or document else None


def _row(one: Shown) -> tuple[str, ...]:
    if one.prepared:
        how = ", ".join(dict.fromkeys([one.runtime or "", *one.classes.values()]))
        state = f"prepared ({how})"
    else:
        state = "gated" if one.gated else "-"
    return (
        one.model,
        str(one.dimensions or "-"),
        str(one.max_tokens or "-"),
        one.languages or "-",
        one.licence or "-",
        _megabytes(one.download_bytes),
        _megabytes(one.memory_bytes),
        state,
    )


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.0f} MB"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
