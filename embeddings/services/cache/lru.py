"""Rows in the memory of one process: least recently used out first."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Sequence

Row = bytes  # float32 in the machine's byte order: immutable, and joined to a batch faster than arrays are stacked

# Stands among the rows where `newly_used` was last called: keys are never empty.
_MARK = b""


class MemoryRows:
    """Rows by key, each until its time. Not thread-safe: the owner holds a lock."""

    def __init__(self, *, max_size: int) -> None:
        self._max_size = max_size
        self._rows: OrderedDict[bytes, tuple[float, Row]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows) - (_MARK in self._rows)

    def get_all(self, keys: Sequence[bytes], *, now: float) -> list[Row] | None:
        """Return the rows in the order of `keys`, or None if one is missing: the short way of a warm request."""
        rows, use = self._rows, self._rows.move_to_end
        found = []
        for key in keys:
            entry = rows.get(key)
            if entry is None or entry[0] < now:
                return None
            use(key)
            found.append(entry[1])
        return found

    def get(self, key: bytes, *, now: float) -> Row | None:
        entry = self._rows.get(key)
        if entry is None:
            return None
        until, row = entry
        if until < now:
            del self._rows[key]
            return None
        self._rows.move_to_end(key)
        return row

    def put(self, key: bytes, row: Row, *, until: float) -> None:
        self._rows[key] = (until, row)
        self._rows.move_to_end(key)
        while len(self) > self._max_size:
            self._rows.popitem(last=False)

    def newly_used(self) -> list[bytes]:
        """Return the keys of the rows that were put in or used since the last call."""
        keys = list(itertools.takewhile(_MARK.__ne__, reversed(self._rows)))
        self._rows[_MARK] = (0.0, b"")
        self._rows.move_to_end(_MARK)
        return keys

    def forget(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._rows.pop(key, None)

    def clear(self) -> None:
        self._rows.clear()
