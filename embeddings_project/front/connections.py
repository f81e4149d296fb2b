"""The connections of a process: what each is at, how many one address holds, which give way when there are too many."""

import select
import socket
from collections import Counter
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from embeddings_project.front.answers import Outgoing
from embeddings_project.front.bodies import Incoming
from embeddings_project.front.heads import Head
from embeddings_project.front.limits import FrontConf

READABLE = select.EPOLLIN | select.EPOLLONESHOT
WRITABLE = select.EPOLLOUT | select.EPOLLONESHOT
NEVER = float("inf")
GIVE_WAY_SHARE = (
    64  # of all connections, this part at once: looking for them takes a while
)
LINGERING_BEYOND = 64  # refused connections that may wait for their client to close


class State(Enum):
    IDLE = auto()  # nothing of a request came yet
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()  # a thread of the pool has it, or will
    WRITING = auto()  # the rest of the answer waits for the client
    LINGERING = (
        auto()
    )  # all is sent; what the client still sends is thrown away until it closes
    BROKEN = auto()


class Connection:
    """One client's connection. The waiting thread has it, except while it is ANSWERING."""

    __slots__ = (
        *("socket", "fd", "address", "state", "since", "deadline", "ends_at", "buffer"),
        *("environ", "head", "body", "outgoing"),
    )

    def __init__(self, accepted: socket.socket, address: Any, now: float) -> None:
        self.socket, self.fd = accepted, accepted.fileno()
        self.address: str = address[0] if isinstance(address, tuple) else ""
        self.state = State.IDLE
        self.since = now  # in this state
        self.deadline = self.ends_at = NEVER
        self.buffer = b""
        self.environ: dict[str, Any] | None = None
        self.head: Head | None = None
        self.body: Incoming | None = None
        self.outgoing: Outgoing | None = None

    def be(self, state: State, now: float, seconds: float) -> None:
        """Enter a state, to be left within `seconds`."""
        self.state, self.since, self.deadline = state, now, now + seconds

    def release(self) -> None:
        """Let go of what the last request brought."""
        for part in (self.body, self.outgoing):
            if part is not None:
                part.close()
        self.head = self.body = self.outgoing = None

    def has_left(self) -> bool:
        """Whether the client has closed the connection."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class Connections:
    """All of them, `most` at once, by their file descriptor. For the waiting thread alone."""

    def __init__(self, conf: FrontConf, most: int, epoll: select.epoll) -> None:
        self._most, self._epoll = most, epoll
        self._most_of_one = most if conf.shared_addresses else max(1, most // 2)
        self._by_fd: dict[int, Connection] = {}
        self._of_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._by_fd)

    def __iter__(self) -> Iterator[Connection]:
        return iter([*self._by_fd.values()])

    def get(self, fd: int) -> Connection | None:
        return self._by_fd.get(fd)

    def add(self, connection: Connection) -> None:
        self._by_fd[connection.fd] = connection
        self._of_address[connection.address] += 1
        self._epoll.register(connection.fd, READABLE)

    def close(self, connection: Connection) -> None:
        """Close it at once; one that a thread answers is that thread's."""
        del self._by_fd[connection.fd]
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]
        connection.release()
        self._epoll.unregister(connection.fd)  # a copy in a child would keep it there
        connection.socket.close()

    def has_space(self, address: str) -> bool:
        return len(self) < self._most and (
            not address or self._of_address[address] < self._most_of_one
        )

    def can_linger(self) -> bool:
        return len(self) < self._most + LINGERING_BEYOND

    def oldest(self, address: str, *, before: float) -> list[Connection]:
        """Return those that would give way to a new connection of `address`: nothing of a whole request is lost.

        They wait for a request, or for the rest of a head, longer than all others; of that address alone, if it is
        that which holds too many. Those that came to it after `before` may just be on their way from a thread.
        """
        all_full = len(self) >= self._most
        waiting = [
            one
            for one in self._by_fd.values()
            if one.state in (State.IDLE, State.HEAD, State.LINGERING)
            and one.since < before
            and (all_full or one.address == address)
        ]
        waiting.sort(key=lambda one: one.since)
        return waiting[: max(1, self._most // GIVE_WAY_SHARE)]
