"""The answer of the application: framed, and sent as fast as the client takes it, from memory or from a file."""

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from embeddings_project.front.bodies import IN_MEMORY_BYTES
from embeddings_project.front.heads import Head
from embeddings_project.front.limits import Budget, Pace
from embeddings_project.front.refusals import date_of

SEND_BYTES = 2**20
WITHOUT_BODY = ("1", "204", "304")


class ClientLeft(ConnectionError):
    """The client closed the connection, or takes no more of its answer."""


class Outgoing:
    """What a client has not taken yet. Beyond a mebibyte it is kept in a file."""

    def __init__(self, connection: socket.socket, budget: Budget, folder: Path) -> None:
        self._socket = connection
        self._budget, self._folder = budget, folder
        self._pieces: deque[memoryview] = deque()
        self._file: IO[bytes] | None = None
        self._file_bytes = self._file_at = 0
        self.size = self.sent = 0
        self.pace: Pace | None = None  # once the client is waited for
        self.keeps_alive = False  # what follows
        self.found_no_space = False

    def write(self, data: bytes) -> None:
        """Send what goes out at once, and keep the rest. Raises ClientLeft."""
        if self.size:
            self.flush()
        sent = 0 if self.size else self._send(data)
        self.sent += sent
        if sent < len(data):
            self._keep(memoryview(data)[sent:])

    def flush(self) -> int:
        """Send what goes out now, and return how many bytes that was. Raises ClientLeft."""
        before = self.size
        while self._pieces:
            piece = self._pieces[0]
            sent = self._send(piece)
            self._took(sent)
            if sent < len(piece):
                self._pieces[0] = piece[sent:]
                return before - self.size
            self._pieces.popleft()
        while self.size and (sent := self._send_file()):
            self._took(sent)
        return before - self.size

    def close(self) -> None:
        self._budget.give(self.size)
        self.size = 0
        self._pieces.clear()
        if self._file is not None:
            self._file.close()

    def _took(self, size: int) -> None:
        self.size -= size
        self.sent += size
        self._budget.give(size)

    def _keep(self, data: memoryview) -> None:
        if not self._budget.take(len(data)):
            self.found_no_space = True
            raise ClientLeft("too much waits for slow clients")
        self.size += len(data)
        if self._file is None and self.size <= IN_MEMORY_BYTES:
            self._pieces.append(data)
            return
        try:
            if self._file is None:
                self._file = TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            while data:
                written = os.pwrite(self._file.fileno(), data, self._file_bytes)
                self._file_bytes += written
                data = data[written:]
        except OSError as error:  # the disk is full
            self.found_no_space = True
            raise ClientLeft("the rest of the answer cannot be kept") from error

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientLeft(str(error)) from error

    def _send_file(self) -> int:
        if self._file is None:
            return 0
        try:
            sent = os.sendfile(
                self._socket.fileno(), self._file.fileno(), self._file_at, SEND_BYTES
            )
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientLeft(str(error)) from error
        self._file_at += sent
        return sent


class Answer:
    """What the application answers to one request, from the status line to the last byte."""

    def __init__(self, head: Head, outgoing: Outgoing, *, keep_alive: bool) -> None:
        self.begun = False  # something of it was sent
        self.broken = False  # no more of it can be sent
        self.keep_alive = keep_alive
        self._head = head
        self._outgoing = outgoing
        self._start: bytes | None = None
        self._left: int | None = None  # of the announced length
        self._has_body = head.method != "HEAD"
        self._chunked = False

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Be WSGI's `start_response`."""
        if exc_info and self.begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._start is not None and not exc_info:
            raise AssertionError("The application started its answer twice.")
        if status.startswith(WITHOUT_BODY):
            self._has_body = False
        lines = [f"HTTP/1.1 {status}"]
        self._left = None
        for name, value in headers:
            lines.append(f"{name}: {value}")
            if name.lower() == "content-length":
                self._left = int(value)
        self._frame(lines, bodiless=status.startswith(WITHOUT_BODY))
        lines.append(f"Date: {date_of(int(time.time()))}")
        text = "\r\n".join([*lines, "", ""])
        if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
            raise ValueError("A header of the answer holds a line end.")
        self._start = text.encode("latin-1")
        return self.write

    def _frame(self, lines: list[str], *, bodiless: bool) -> None:
        """Say where the body ends, and whether the connection does."""
        self._chunked = False
        if self._left is None and not bodiless:
            if self._head.is_http_1_0:
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append("Transfer-Encoding: chunked")
        if not self.keep_alive:
            lines.append("Connection: close")
        elif self._head.is_http_1_0:
            lines.append("Connection: keep-alive")

    def write(self, data: bytes) -> None:
        """Send a piece of the body, after the head if that was not sent yet."""
        if data:
            self._send(self._framed(data))

    def finish(self) -> None:
        """Send what ends the body."""
        last = b"0\r\n\r\n" if self._chunked and self._has_body else b""
        self._send(last)
        if self._left and self._has_body:
            self.keep_alive = False  # the client waits for more than there is

    def _framed(self, data: bytes) -> bytes:
        if not self._has_body:
            return b""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data)
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data

    def _send(self, data: bytes) -> None:
        if self._start is None:
            raise AssertionError("The application did not start its answer.")
        if not self.begun:
            self.begun = True
            data = self._start + data
        if data:
            self._outgoing.write(data)
