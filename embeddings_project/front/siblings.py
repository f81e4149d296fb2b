"""How many connections each web process of a server has, in memory that all of them share.

The system hands a new connection to whichever process is awake, so that one may come to hold them all. So a process
leaves it to one that has fewer.
"""

import math
import mmap

MOST = 192  # web processes, those included that a reload replaces
SILENT_SECONDS = 1.5  # a process that stands still says nothing


class Siblings:
    """Made before the fork. Each process has a place of its own there, `take`n and `free`d by the main process."""

    def __init__(self) -> None:
        # A count and when it was written, by turns: each is one aligned word, so that no reader sees half of it.
        self._figures = memoryview(mmap.mmap(-1, MOST * 16)).cast("d")
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return a place for a new process."""
        place = next(each for each in range(MOST) if each not in self._taken)
        self._taken.add(place)
        return place

    def free(self, place: int) -> None:
        """Forget a process that has ended."""
        self._taken.discard(place)
        self.fall_silent(place)

    def say(self, place: int, connections: int, now: float) -> None:
        """Write how many connections a process has. `now` is of the system's monotonic clock."""
        self._figures[2 * place] = connections
        self._figures[2 * place + 1] = now

    def fall_silent(self, place: int) -> None:
        """Say that a process takes no new connections."""
        self._figures[2 * place + 1] = -math.inf

    def fewest_of_others(self, place: int, now: float) -> float:
        """Return the connections of the process that has fewest; infinity if there is no other."""
        figures = self._figures
        return min(
            (
                figures[2 * other]
                for other in range(MOST)
                if other != place and figures[2 * other + 1] > now - SILENT_SECONDS
            ),
            default=math.inf,
        )
