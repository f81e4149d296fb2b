"""The memory that loaded models share: who has a place in it, and who waits for one. Nothing of the engine is in here.

What fits gets its place at once. What does not waits, in order of arrival, until enough of the others have left. Those
that nobody uses leave at once, the one unused for longest first. One at work keeps its place for a time slice. Then,
while somebody waits for its memory, it takes no new users, and leaves when those it has are done; its new users wait
like all others. So what was loaded serves those for whom it was, and nothing keeps another out for ever.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from providers.exceptions import (
    Abandoned,
    EngineClosed,
    Overloaded,
)
from providers.waiting import caller_left

# Loading takes about as long for a large model; one that took longer keeps its place for that long.
SLICE_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 1.0
_RETRY_WHEN_FULL_SECONDS = 5.0

Key = TypeVar("Key", bound=Hashable)
Content = TypeVar("Content")


@dataclass(slots=True, eq=False)
class _Place(Generic[Key, Content]):
    """A part of the memory. `content` is None while it is being loaded; `users` are under way in it."""

    key: Key
    size_bytes: int
    content: Content | None = None
    users: int = 1
    kept_until: float = 0.0
    used_at: float = 0.0
    leaving: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Ticket(Generic[Key]):
    """One waiting user."""

    key: Key
    size_bytes: int


class ModelMemory(Generic[Key, Content]):
    """Places for what is loaded, `limit_bytes()` together: that is asked when something is loaded, and not before.

    Times are of `clock`, in seconds.

    `put_out(content, idle_seconds)` ends a content that did nothing for so long and returns whether it did; `let_go` is
    called when nothing here refers to it any more, so that its memory can go back.
    """

    def __init__(
        self,
        limit_bytes: Callable[[], int],
        *,
        put_out: Callable[[Content, float], bool],
        let_go: Callable[[], None] = lambda: None,
        slice_seconds: float = SLICE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._put_out = put_out
        self._let_go = let_go
        self._slice_seconds = slice_seconds
        self._clock = clock
        self._changed = threading.Condition()
        self._places: dict[Key, _Place[Key, Content]] = {}
        self._line: list[_Ticket[Key]] = []

    @contextmanager
    def using(
        self,
        key: Key,
        size_bytes: Callable[[], int],
        load: Callable[[], Content],
        *,
        timeout_seconds: float,
    ) -> Iterator[Content]:
        """Lend what has the place of `key`, loaded by the first who asks; it is not put out meanwhile.

        Not to be nested: the inner use may have to wait until the outer one ends.
        `size_bytes` is at most the limit. Raises Overloaded where no memory was freed in time, Abandoned when the
        caller left, EngineClosed for what was dropped while it was loaded, or what `load` raises.
        """
        deadline = self._clock() + timeout_seconds
        place = self._entered(key)
        if place is None:
            place = self._waited(_Ticket(key, size_bytes()), deadline)
        try:
            yield self._filled(place, load)
        finally:
            self._leave(place)

    def contents(self) -> dict[Key, Content]:
        """Return what is loaded by key, unused for longest first."""
        with self._changed:
            places = sorted(self._places.values(), key=lambda place: place.used_at)
            return {
                place.key: place.content
                for place in places
                if place.content is not None and not place.leaving
            }

    def sizes(self) -> dict[Key, int]:
        """Return the bytes that each place takes."""
        with self._changed:
            return {place.key: place.size_bytes for place in self._places.values()}

    def __contains__(self, key: object) -> bool:
        """Whether something has a place under this key."""
        return key in self._places

    def grow(self, key: Key, size_bytes: int) -> bool:
        """Enlarge the place of `key` and return True if that fits; nothing is unloaded for it, and nobody waits."""
        with self._changed:
            place = self._places.get(key)
            if place is None or self._line or self._free_bytes() < size_bytes:
                return False
            place.size_bytes += size_bytes
            return True

    def drop(self, key: Key) -> Content | None:
        """Take away the place of `key` whoever uses it; return what was there, for the caller to end."""
        with self._changed:
            place = self._places.pop(key, None)
            self._changed.notify_all()
            return place.content if place else None

    def put_out_idle(self, seconds: float) -> None:
        """Put out all that did nothing for so long."""
        with self._changed:
            idle = [place for place in self._places.values() if self._unused(place)]
            for place in idle:
                place.leaving = True
        for place in idle:
            self._end(place, seconds)

    def _entered(self, key: Key) -> _Place[Key, Content] | None:
        """Become a user of what is loaded, unless it takes no more."""
        with self._changed:
            place = self._places.get(key)
            if place is None or place.content is None or place.leaving:
                return None
            if self._line and place in self._called_out():
                return None
            place.users += 1
            return place

    def _waited(self, ticket: _Ticket[Key], deadline: float) -> _Place[Key, Content]:
        left = caller_left.get()
        with self._changed:
            self._line.append(ticket)
        try:
            while True:
                with self._changed:
                    place = self._entered(ticket.key) or self._taken(ticket)
                    if place is not None:
                        return place
                    if left():
                        raise Abandoned("The client closed the connection.")
                    if self._clock() >= deadline:
                        raise _full()
                    gone = self._next_to_go(ticket)
                    if gone is None:
                        self._changed.wait(self._patience(deadline))
                if gone is not None and not self._end(gone, 0.0):
                    with self._changed:  # it ends what nobody waits for any more
                        self._changed.wait(self._patience(deadline))
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _taken(self, ticket: _Ticket[Key]) -> _Place[Key, Content] | None:
        """Take a new place, to be loaded, if it is this one's turn and it fits."""
        if self._first() is not ticket or self._free_bytes() < ticket.size_bytes:
            return None
        place = _Place[Key, Content](ticket.key, ticket.size_bytes)
        self._places[ticket.key] = place
        return place

    def _next_to_go(self, ticket: _Ticket[Key]) -> _Place[Key, Content] | None:
        """Mark and return one that the caller has to put out now for this ticket, if it is its turn."""
        if self._first() is not ticket:
            return None
        out = [place for place in self._called_out() if self._unused(place)]
        if not out:
            return None
        out[0].leaving = True
        return out[0]

    def _patience(self, deadline: float) -> float:
        now = self._clock()
        ends = [
            place.kept_until
            for place in self._places.values()
            if place.kept_until > now
        ]
        return max(0.0, min([deadline, now + _LOOK_AGAIN_SECONDS, *ends]) - now)

    def _filled(
        self, place: _Place[Key, Content], load: Callable[[], Content]
    ) -> Content:
        if place.content is not None:
            return place.content
        started = self._clock()
        try:
            content = load()
        except BaseException:
            with self._changed:
                self._remove(place)
            raise
        with self._changed:
            now = self._clock()
            place.content, place.used_at = content, now
            place.kept_until = now + max(self._slice_seconds, now - started)
            self._changed.notify_all()
            if self._places.get(place.key) is place:
                return content
        self._put_out(content, 0.0)
        raise EngineClosed("The model's files were replaced while it was loaded.")

    def _leave(self, place: _Place[Key, Content]) -> None:
        with self._changed:
            place.users -= 1
            place.used_at = self._clock()
            if self._line:
                self._changed.notify_all()

    def _end(self, place: _Place[Key, Content], idle_seconds: float) -> bool:
        """Put out what is marked as leaving; return True if it went."""
        went = place.content is not None and self._put_out(place.content, idle_seconds)
        if went:
            place.content = None
            self._let_go()
        with self._changed:
            if went:
                self._remove(place)
            else:
                place.leaving = False
        return went

    def _remove(self, place: _Place[Key, Content]) -> None:
        if self._places.get(place.key) is place:
            del self._places[place.key]
        self._changed.notify_all()

    def _first(self) -> _Ticket[Key] | None:
        """Return the ticket whose turn it is: the first of which nothing has a place."""
        return next((t for t in self._line if t.key not in self._places), None)

    def _called_out(self) -> list[_Place[Key, Content]]:
        """Return those that have to go for the ticket whose turn it is: unused ones, then those longest over time."""
        first, now = self._first(), self._clock()
        if first is None:
            return []
        lacking = first.size_bytes - self._free_bytes()
        awaited = {ticket.key for ticket in self._line}
        may_go = [
            place
            for place in self._places.values()
            if place.content is not None
            and (
                place.leaving
                or now >= place.kept_until
                # Those who waited for it have their turn, if only just now.
                or not (place.users or place.key in awaited)
            )
        ]
        may_go.sort(
            key=lambda place: (
                not place.leaving,
                place.users > 0,
                place.kept_until if place.users else place.used_at,
            )
        )
        out: list[_Place[Key, Content]] = []
        for place in may_go:
            if lacking <= 0:
                break
            out.append(place)
            lacking -= place.size_bytes
        return out

    def _free_bytes(self) -> int:
        return self._limit_bytes() - sum(p.size_bytes for p in self._places.values())

    @staticmethod
    def _unused(place: _Place[Key, Content]) -> bool:
        return place.content is not None and not place.users and not place.leaving


def _full() -> Overloaded:
    return Overloaded(
        "Models at work take all the memory that models may take (EMBEDDINGS_MODELS_MAX_MB).",
        retry_after_seconds=_RETRY_WHEN_FULL_SECONDS,
    )
