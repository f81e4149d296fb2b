"""What goes over the engine's socket: frames of a JSON header and raw numbers. A connection carries one call at a time.

    frame     lengths of header and body (two uint32, little-endian), header, body
    greeting  the engine's first frame on a connection: {"pid": its process}
    run       {"op": "run", "model", "precision", "revision", "timeout_seconds", "again", "prompt", "prompt_tokens",
               "lengths": [tokens of each text]}, body: all token ids, int32; where the engine tokenises,
               {"texts": [...]} in place of the lengths, and no body
              -> {"shape": [texts, dimensions], "stages": {stage: seconds}}, body: float32
              With "again", {"started": true} comes before the run: it is the second try of a call that an engine's
              death cut off.
    count, truncate, decode
              {"op", "model", "given": [the tokenizer's arguments]} -> {"value": what it returned}
    state     {"op": "state"} -> {"loaded": [[model, precision]], "refused": [[model, precision, reason]], "healthy"}
    report    {"op": "report"} -> the fields of EngineState

A call that fails is answered with {"error": {"type", "fields"}}. A client closes its connection to give a call up.
"""

import select
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from providers import exceptions
from providers.exceptions import ProviderError, ProviderUnavailable

_LENGTHS = struct.Struct("<II")
_LARGEST = 2**31
_IN_ONE_PIECE = 2**16

Wait = Callable[[], None]


class Closed(Exception):
    """The other side closed the connection, or died."""


class Channel:
    """A connection, and what was read of it beyond the last frame. One thread at a time uses it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._read = bytearray()

    def send(self, header: Mapping[str, Any], body: memoryview | bytes = b"") -> None:
        """Send one frame. Raises Closed."""
        head = orjson.dumps(header)
        body = memoryview(body).cast("B")
        start = _LENGTHS.pack(len(head), len(body)) + head
        try:
            if len(body) <= _IN_ONE_PIECE:
                self.socket.sendall(start + body)
            else:
                self.socket.sendall(start)
                self.socket.sendall(body)
        except OSError as error:
            raise Closed(str(error)) from error

    def receive(
        self, *, wait: Wait = lambda: None
    ) -> tuple[dict[str, Any], memoryview]:
        """Return the next frame's header and body. Raises Closed.

        `wait` is called each time that the connection's timeout passes without a byte, and ends the wait by raising.
        """
        self._fill(_LENGTHS.size, wait)
        head_size, body_size = _LENGTHS.unpack_from(self._read)
        start = _LENGTHS.size + head_size
        end = start + body_size
        if end > _LARGEST:
            raise Closed("A frame is over 2 GiB.")
        self._fill(end, wait)
        frame, self._read = self._read, self._read[end:]
        header: dict[str, Any] = orjson.loads(memoryview(frame)[_LENGTHS.size : start])
        return header, memoryview(frame)[start:end]

    def peer_left(self) -> bool:
        """Whether the other side closed the connection; what it sent meanwhile stays to be read."""
        look = select.poll()
        look.register(self.socket, select.POLLIN)
        try:
            return bool(look.poll(0)) and not self.socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def close(self) -> None:
        self.socket.close()

    def _fill(self, size: int, wait: Wait) -> None:
        """Read until at least `size` bytes are there."""
        while (lacking := size - len(self._read)) > 0:
            try:
                piece = self.socket.recv(max(lacking, _IN_ONE_PIECE))
            except TimeoutError:
                wait()
                continue
            except OSError as error:
                raise Closed(str(error)) from error
            if not piece:
                raise Closed("The connection was closed.")
            self._read += piece


def as_header(error: ProviderError) -> dict[str, Any]:
    """Return the header that says so."""
    fields = {"type": type(error).__name__, "fields": vars(error)}
    return {"error": fields}


def as_error(header: Mapping[str, Any]) -> ProviderError:
    """Return the error that a header says, to be raised."""
    kind = getattr(exceptions, header["error"]["type"], ProviderUnavailable)
    fields = header["error"]["fields"]
    error: ProviderError = kind.__new__(kind, fields["message"])
    vars(error).update(fields)
    return error
