"""gunicorn's worker class: one thread that waits for all connections, and drains them at the end."""

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from typing import Any

from gunicorn.workers.base import Worker

from embeddings_project.front.connections import Connection, Connections, State
from embeddings_project.front.exchange import Front
from embeddings_project.front.heads import Proxies, base_environ
from embeddings_project.front.limits import FrontConf, raise_file_limit
from embeddings_project.front.pool import PATIENCE_SECONDS
from embeddings_project.front.refusals import busy
from embeddings_project.front.siblings import Siblings
from embeddings_project.logging import log_event

LOAD_SECONDS = 120
SWEEP_SECONDS = 0.5
ACCEPTS_AT_ONCE = 64
UNSENT_BYTES = 2**18
PAUSE_SECONDS = 0.5  # where no file descriptor is left
GIVE_WAY_SECONDS = 0.002  # to a process with fewer connections, which may be busy
SETTLED_SECONDS = 1.0
IDLE_STAY_SECONDS = 2.0  # of a stopping worker: a client may be sending already
AT_WORK = (State.HEAD, State.BODY, State.ANSWERING, State.WRITING)

log = logging.getLogger(__name__)
siblings = Siblings()


class FrontWorker(Worker):  # type: ignore[misc]
    """A process of the web server."""

    alive: bool

    def __init__(self, *arguments: Any) -> None:
        """Called in the main process, before the fork."""
        super().__init__(*arguments)
        self.place = siblings.take()

    def ended(self) -> None:
        """Called in the main process, once the process is gone."""
        siblings.free(self.place)

    def init_process(self) -> None:
        """Load the application, which may take longer than a process may stand still, and run."""
        self._loaded = threading.Event()
        threading.Thread(target=self._notify_until_loaded, daemon=True).start()
        super().init_process()

    def _notify_until_loaded(self) -> None:
        for _ in range(LOAD_SECONDS):
            if self._loaded.wait(1):
                return
            self.notify()

    def run(self) -> None:
        from django.conf import settings

        conf: FrontConf = settings.HTTP_FRONT
        self._conf = conf
        self._epoll = select.epoll()
        most = raise_file_limit(conf.max_connections)
        self._connections = Connections(conf, most, self._epoll)
        self._front = Front(
            self.wsgi,
            conf,
            environ=base_environ(workers=self.cfg.workers),
            proxies=_proxies(self.cfg),
            threads=self.cfg.threads,
            epoll=self._epoll,
        )
        self._front.leave = self._connections.close
        self._listeners = {one.fileno(): one for one in self.sockets}
        self._accepts_at = 0.0  # 0: now
        self._gave_way_at = 0.0
        self._drained_since = 0.0
        for listener in self._listeners.values():
            listener.setblocking(0)
            # The system, too, keeps little for a client that reads nothing. Accepted connections inherit it.
            with contextlib.suppress(OSError):  # a Unix socket
                listener.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
                )
        self._listen()
        self._epoll.register(self.PIPE[0], select.EPOLLIN)  # written to by signals
        self._next_sweep = 0.0
        self._loaded.set()
        while self._wait():
            pass

    def _listen(self) -> None:
        for fd in self._listeners:
            self._epoll.register(fd, select.EPOLLIN)

    def _wait(self) -> bool:
        """Serve what is ready; return whether to go on."""
        for fd, _ in self._epoll.poll(self._patience()):
            connection = self._connections.get(fd)
            if connection is not None:
                self._serve(connection)
            elif fd in self._listeners:
                self._accept(self._listeners[fd])
            elif fd == self.PIPE[0]:
                os.read(fd, 4096)
        now = time.monotonic()
        if self.alive:
            siblings.say(self.place, len(self._connections), now)
            if self._accepts_at and now >= self._accepts_at:
                self._accepts_at = 0.0
                self._listen()
        if now >= self._next_sweep or not self.alive:
            self._next_sweep = now + SWEEP_SECONDS
            self.notify()
            self._sweep(now)
        return self.alive or self._drain(now)

    def _patience(self) -> float:
        """Return for how long to wait for something to be ready."""
        wait = PATIENCE_SECONDS if self._front.look() else SWEEP_SECONDS
        if not self._accepts_at:
            return wait
        return min(wait, max(0.0, self._accepts_at - time.monotonic()))

    def _serve(self, connection: Connection) -> None:
        try:
            self._front.on_event(connection)
        except Exception:  # of one connection: the others go on
            log.exception("connection_failed")
            self._connections.close(connection)

    # Accepting

    def _accept(self, listener: Any) -> None:
        if self._accepts_at:
            return
        now = time.monotonic()
        fewer = siblings.fewest_of_others(self.place, now) - len(self._connections)
        if fewer < -1 and now - self._gave_way_at > 2 * GIVE_WAY_SECONDS:
            self._gave_way_at = now
            self._pause(now + GIVE_WAY_SECONDS)
            return
        self._gave_way_at = 0.0
        for _ in range(int(min(max(fewer, 1), ACCEPTS_AT_ONCE))):
            try:
                accepted, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (
                    errno.EMFILE,
                    errno.ENFILE,
                    errno.ENOBUFS,
                    errno.ENOMEM,
                ):
                    log.error("too_many_open_files")
                    self._pause(now + PAUSE_SECONDS)
                return
            accepted.settimeout(0)
            self._take_in(Connection(accepted, address, now), now)

    def _take_in(self, connection: Connection, now: float) -> None:
        if not self._connections.has_space(connection.address):
            for oldest in self._connections.oldest(
                connection.address, before=now - SETTLED_SECONDS
            ):
                self._front.closed["gave way to a new connection"] += 1
                self._connections.close(oldest)
        connection.deadline = now + self._conf.header_seconds
        if self._connections.has_space(connection.address):
            self._connections.add(connection)
            return
        self._front.closed["too many connections"] += 1
        if not self._connections.can_linger():
            connection.socket.close()
            return
        self._connections.add(connection)
        self._front.turn_away(
            connection, busy("Too many connections are open; try again.")
        )

    def _pause(self, until: float) -> None:
        """Accept nobody for a moment."""
        for fd in self._listeners:
            self._epoll.unregister(fd)
        self._accepts_at = until

    # Looking after

    def _sweep(self, now: float) -> None:
        for connection in self._connections:
            if connection.state is not State.ANSWERING:
                self._front.expire(connection, now)
        self._front.refuse_stale(now)
        if closed := self._front.closed:
            log_event(log, "connections_closed", reasons=dict(closed))
            closed.clear()
        if os.getppid() != self.ppid:
            self.alive = False

    # Ending

    def _drain(self, now: float) -> bool:
        """Answer what is under way; return whether anything is left."""
        if not self._front.draining:
            self._front.draining = True
            self._drained_since = now
            siblings.fall_silent(self.place)
            log_event(log, "draining", connections=len(self._connections))
            for listener in self._listeners.values():
                listener.close()
            self._listeners.clear()
        took = now - self._drained_since
        connections = [*self._connections]
        busy_ones = [one for one in connections if one.state in AT_WORK or one.buffer]
        if busy_ones and took > self._conf.drain_seconds:
            log_event(log, "drain_cut", connections=len(busy_ones))
            return False
        idle = any(one.state is State.IDLE for one in connections)
        return bool(busy_ones) or (idle and took < IDLE_STAY_SECONDS)


def _proxies(cfg: Any) -> Proxies:
    """Return what gunicorn's settings say of proxies."""
    return Proxies(
        allowed=tuple(cfg.forwarded_allow_ips),
        schemes={
            f"HTTP_{name.replace('-', '_')}": secure
            for name, secure in cfg.secure_scheme_headers.items()
        },
    )
