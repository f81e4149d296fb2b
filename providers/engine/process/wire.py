"""What goes over the engine's socket: frames of a JSON header and raw numbers. A connection carries one call at a time.

    frame     lengths of header and body (two uint32, little-endian), header, body
    greeting  the engine's first frame on a connection: {"pid": its process}
    run       {"op": "run", "model", "precision", "revision", "timeout_seconds", "again", "prompt", "prompt_tokens",
               "lengths": [tokens of each text]}, body: all token ids, int32; where the model's own library tokenises,
               {"texts": [...]} in place of the lengths, and no body
              -> {"shape": [texts, dimensions]}, body: float32
              With "again", {"started": true} comes before the run: it is the second try of a call that an engine's
              death cut off.
    count, truncate, decode
              {"op", "model", "given": [the tokenizer's arguments]} -> {"value": what it returned}
    state     {"op": "state"} -> {"loaded": [[model, precision]], "refused": [[model, precision, reason]], "healthy"}

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


def send(
    connection: socket.socket, header: Mapping[str, Any], body: memoryview | bytes = b""
) -> None:
    """Send one frame. Raises Closed."""
    head = orjson.dumps(header)
    body = memoryview(body).cast("B")
    start = _LENGTHS.pack(len(head), len(body)) + head
    try:
        if len(body) <= _IN_ONE_PIECE:
            connection.sendall(start + body)
        else:
            connection.sendall(start)
            connection.sendall(body)
    except OSError as error:
        raise Closed(str(error)) from error


def receive(
    connection: socket.socket, *, wait: Wait = lambda: None
) -> tuple[dict[str, Any], bytearray]:
    """Return the next frame's header and body. Raises Closed.

    `wait` is called each time that the connection's timeout passes without a byte, and ends the wait by raising.
    """
    lengths = _exactly(connection, _LENGTHS.size, wait)
    head_size, body_size = _LENGTHS.unpack(lengths)
    if head_size + body_size > _LARGEST:
        raise Closed("A frame is over 2 GiB.")
    header: dict[str, Any] = orjson.loads(_exactly(connection, head_size, wait))
    return header, _exactly(connection, body_size, wait)


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


def peer_left(connection: socket.socket) -> bool:
    """Whether the other side closed the connection; what it sent meanwhile stays to be read."""
    look = select.poll()
    look.register(connection, select.POLLIN)
    try:
        return bool(look.poll(0)) and not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _exactly(connection: socket.socket, size: int, wait: Wait) -> bytearray:
    data = bytearray(size)
    left = memoryview(data)
    while left:
        try:
            count = connection.recv_into(left)
        except TimeoutError:
            wait()
            continue
        except OSError as error:
            raise Closed(str(error)) from error
        if not count:
            raise Closed("The connection was closed.")
        left = left[count:]
    return data
