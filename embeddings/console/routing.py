"""Routing: the fallback chains drawn, vector spaces coloured, and what would answer a request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from django.http import HttpRequest

from embeddings.access.caller_lookup import find_caller
from embeddings.conf import FallbackMode, conf
from embeddings.console.page import ConsolePage
from embeddings.services.callers import SYSTEM, Caller
from embeddings.services.catalog import list_models
from embeddings.services.routes import ANY_MODEL, Outcome, Route, chains, route_of
from embeddings.services.routing import Fallback, refusal
from embeddings.services.types import EmbeddingRequest, Target
from providers.registry import registry

MODES: tuple[FallbackMode, ...] = get_args(FallbackMode)
TONES: dict[Outcome, str] = {"answers": "good", "fails": "bad"}
# Of the picture, in its own units.
WIDTH, HEIGHT, GAP, LINE = 224, 52, 44, 72
LETTERS = 28
COLOURS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One provider in the picture, with the model that it would run. `space`: its letter, of the legend."""

    provider: str
    model: str
    space: str
    colour: int
    note: str
    x: int
    y: int
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def arrow(self) -> tuple[int, int, int]:
        """Where the arrow to this box begins and ends, and at which height; a first box has none."""
        return self.x - GAP + 4, self.x - 4, self.y + HEIGHT // 2

    @property
    def is_first(self) -> bool:
        return self.x == 0

    @property
    def text_x(self) -> int:
        return self.x + 44

    @property
    def middle(self) -> int:
        return self.y + HEIGHT // 2

    @property
    def letter_x(self) -> int:
        return self.x + 20

    @property
    def short(self) -> str:
        """The model's name as far as it fits."""
        name = self.model.rpartition("/")[2]
        return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The chains as rows of boxes. `spaces`: what the letters mean, with their colours."""

    rows: Sequence[Sequence[Box]]
    spaces: Sequence[tuple[str, str, int]]
    width: int
    height: int


class Routing(ConsolePage):
    route = "gateway/routing/"
    title = "Routing"
    icon = "route"
    section = "Gateway"
    needs = ("providers.view_providersetting",)

    def show(self) -> dict[str, Any]:
        asked = self.request.GET
        may_name = conf().access.multi_user and self.request.user.has_perms(
            ("auth.view_user", "embeddings.view_apikey")
        )
        shown = {
            "picture": picture(list(chains())),
            "models": [one.target.label for one in list_models()],
            "providers": registry().names(),
            "modes": MODES,
            "server_mode": conf().fallback,
            "may_name_callers": may_name,
            "asked": asked,
        }
        if "fallback" not in asked:
            return shown
        caller = _caller(self.request) if may_name else SYSTEM
        if caller is None:
            return {**shown, "problem": "There is no such user or key that may call."}
        route = _route(self.request, caller)
        return {**shown, "route": route, "steps": _steps(route), "caller": caller}


def picture(rows: Sequence[tuple[Target, Sequence[Fallback]]]) -> Picture:
    """Lay out the chains: a line for each provider, its fallbacks to the right of it."""
    letters: dict[str, str] = {}
    drawn: list[list[Box]] = []
    for line, (primary, places) in enumerate(rows):
        targets = [
            (primary.provider.name, primary, _unused(primary)),
            *((one.provider, one.target, _note(one)) for one in places),
        ]
        drawn.append(
            [
                _box(provider, target, note, letters, column, line)
                for column, (provider, target, note) in enumerate(targets)
            ]
        )
    columns = max((len(row) for row in drawn), default=0)
    spaces = [
        (letter, space, _colour(letter, letters)) for space, letter in letters.items()
    ]
    return Picture(
        rows=drawn,
        spaces=spaces,
        width=columns * (WIDTH + GAP) - GAP,
        height=len(drawn) * LINE - (LINE - HEIGHT),
    )


def _box(
    provider: str,
    target: Target | None,
    note: str | None,
    letters: dict[str, str],
    column: int,
    line: int,
) -> Box:
    space = target.model.vector_space if target else ""
    letter = letters.setdefault(space, _letter(len(letters))) if space else "-"
    name = target.model.name if target else "no model"
    return Box(
        provider=provider,
        model="any model" if name == ANY_MODEL else name,
        space=letter,
        colour=_colour(letter, letters),
        note=note or "",
        x=column * (WIDTH + GAP),
        y=line * LINE,
    )


def _letter(place: int) -> str:
    """Return A to Z, then A2, B2, …"""
    return chr(ord("A") + place % 26) + (str(place // 26 + 1) if place >= 26 else "")


def _colour(letter: str, letters: dict[str, str]) -> int:
    """Return the number of a space's colour; spaces beyond the last colour share them, so the letter counts."""
    known = [*letters.values()]
    return known.index(letter) % COLOURS + 1 if letter in known else 0


def _note(place: Fallback) -> str | None:
    unused = _unused(place.target) if place.target else None
    return place.left_out or unused


def _unused(target: Target) -> str | None:
    """Say why a provider does not serve requests now, or None."""
    left_out = refusal(target.provider.name, target.model.name)
    return left_out or target.problem()


def _caller(request: HttpRequest) -> Caller | None:
    name = request.GET.get("caller", "").strip()
    return find_caller(name) if name else SYSTEM


def _route(request: HttpRequest, caller: Caller) -> Route:
    mode = request.GET["fallback"]
    return route_of(
        EmbeddingRequest(
            inputs=("text",),
            model=request.GET.get("model", "").strip() or None,
            provider=request.GET.get("provider", "").strip() or None,
            fallback=mode if mode in MODES else None,
            caller=caller,
        )
    )


def _steps(route: Route) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield each step as provider, model, space, outcome with its tone, and reason."""
    for step in route.steps:
        model = step.target.model if step.target else None
        yield (
            f"{step.provider}:{model.name}" if model else step.provider,
            model.vector_space if model else "",
            step.outcome,
            TONES.get(step.outcome, ""),
            step.reason,
        )
