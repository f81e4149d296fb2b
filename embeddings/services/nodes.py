"""The nodes that share a database: each says what it is set up as, and where they differ is shown and logged.

A node is one `serve` with all its processes, or a `runworker` alone. With SQLite there is one, and nothing is written.
Its name is drawn once and kept in its DATA_DIR; its run is drawn at each start.
"""

import functools
import secrets
import socket
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.apps import apps
from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from embeddings.models import Node
from providers.engine.inference import revision_of
from providers.engine.options import EngineOptions, weights_of
from providers.engine.prepared import Prepared
from providers.state.server_folder import server_folder

SILENT = timedelta(seconds=35)
FORGOTTEN = timedelta(hours=1)
NAME_TAKEN = (
    "Its DATA_DIR is a copy, or two servers use it: give each its own, and remove the file `node` from a copy"
    " before its start."
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What nodes differ in, a setting or a model: which are alike, and which lack the model."""

    what: str
    alike: tuple[tuple[str, ...], ...]
    lacking: tuple[str, ...] = ()


class NodeBeat:
    """Says for one process of a node that the node runs.

    The process that is first to say so in a run compares the node with the others.
    """

    def __init__(self, role: str) -> None:
        folder = server_folder()
        self._name = f"{'serve' if folder else role}-{settings.NODE_NAME}"[:64]
        # Web processes that `serve` did not start know nothing of each other.
        self._is_of_node = bool(settings.NODE_NAME and (folder or role == "worker"))
        self._mine: Mapping[str, Any] = {
            "run": folder.name if folder else _run_alone(),
            "started_at": apps.get_app_config("providers").started_at,  # type: ignore[attr-defined]
        }
        self._models = PreparedModels()
        self._held = self._warned = False

    def say(self) -> None:
        """Write that the node runs, and which models it has. Raises DatabaseError."""
        if not self._is_of_node:
            return
        state = {"beat_at": timezone.now(), "prepared": self._models.revisions()}
        rows = Node.objects.filter(name=self._name)
        if rows.filter(**self._mine).update(**state):
            self._held = True
        elif not self._is_succeeded(rows):
            self._take(rows, state)

    def _is_succeeded(self, rows: QuerySet[Node]) -> bool:
        """Whether the server was reloaded, and this process is of the program before."""
        later = Q(run=self._mine["run"], started_at__gt=self._mine["started_at"])
        return rows.filter(later).exists()

    def _take(self, rows: QuerySet[Node], state: Mapping[str, Any]) -> None:
        """Have the node's row be of this run; it was of another one, or there was none."""
        own = {
            **self._mine,
            **state,
            "host": socket.gethostname()[:255],
            "settings": settings.NODE_SETTINGS,
            "taken_at": state["beat_at"] if self._held else None,
        }
        if not rows.filter(~Q(**self._mine)).update(**own):
            _, made = Node.objects.get_or_create(name=self._name, defaults=own)
            if not made:
                return  # another process of this run was first
        node = rows.get()
        if not self._held:
            _compare(node)
        elif not self._warned:
            self._warned = True
            log.warning("node_name_taken", node=str(node), remedy=NAME_TAKEN)
        self._held = True


class PreparedModels:
    """The local models that are ready here, read from disk when one is prepared, replaced or removed."""

    def __init__(self) -> None:
        self._weights = weights_of(EngineOptions.of(settings.LOCAL_ENGINE))
        self._read: tuple[Hashable, dict[str, str]] | None = None

    def revisions(self) -> dict[str, str]:
        """Return what changes when a model's vectors do, in any class, by its name."""
        state = self._weights.state()
        if self._read is None or self._read[0] != state:
            found = map(self._weights.find, self._weights.prepared_names())
            self._read = (state, {one.name: _revisions(one) for one in found if one})
        return self._read[1]


def _revisions(model: Prepared) -> str:
    return " ".join(revision_of(model, precision) for precision in model.precisions)


def differences() -> Iterator[Difference]:
    """Yield what the nodes that run differ in."""
    nodes = list(_running())
    for what in sorted({one for node in nodes for one in _unlike(nodes[0], node)}):
        alike: dict[str, list[str]] = {}
        for node in nodes:
            alike.setdefault(_described(node).get(what, ""), []).append(str(node))
        lacking = tuple(alike.pop("", ()))
        groups = tuple(tuple(names) for names in alike.values())
        yield Difference(what=what, alike=groups, lacking=lacking)


def names_taken() -> list[str]:
    """Return the nodes that run whose name another one that runs has, too."""
    return [str(node) for node in _running().filter(taken_at__gte=_silent_since())]


def _compare(node: Node) -> None:
    """Warn of what a node that starts does not have like the others, and forget those that are long gone."""
    Node.objects.filter(beat_at__lt=node.beat_at - FORGOTTEN).delete()
    for peer in _running().exclude(pk=node.pk):
        for what in _unlike(node, peer):
            log.warning("node_differs", setting=what, node=str(node), peer=str(peer))


def _unlike(one: Node, other: Node) -> list[str]:
    here, there = _described(one), _described(other)
    names = sorted({*here, *there})
    return [name for name in names if here.get(name) != there.get(name)]


def _described(node: Node) -> dict[str, str]:
    models = {f"the model {name}": each for name, each in node.prepared.items()}
    return {**node.settings, **models}


def _running() -> QuerySet[Node]:
    return Node.objects.filter(beat_at__gte=_silent_since()).order_by("host", "name")


def _silent_since() -> datetime:
    return timezone.now() - SILENT


@functools.cache
def _run_alone() -> str:
    return secrets.token_hex(8)
