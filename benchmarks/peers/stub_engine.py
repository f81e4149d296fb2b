"""An engine process that computes nothing: `python -m benchmarks.peers.stub_engine SOCKET`.

With it the web processes can be measured alone. It speaks the engine's wire; all texts have the same vector.
"""

import os
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from providers.engine.inference import EngineState
from providers.engine.process.wire import Channel, Closed

DIMENSIONS = 384


def serve(connection: socket.socket) -> None:
    """Answer the calls of one connection, until it is closed."""
    channel = Channel(connection)
    try:
        channel.send({"pid": os.getpid()})
        while True:
            header, _ = channel.receive()
            channel.send(*answer(header))
    except Closed:
        channel.close()


def answer(header: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return the header and the body that answer a call."""
    if header["op"] == "state":
        return {"loaded": [], "refused": [], "healthy": True}, b""
    if header["op"] == "report":
        state = EngineState(
            pid=os.getpid(), up_seconds=0.0, memory_bytes=0, queued_tokens=0, loaded=()
        )
        return asdict(state), b""
    texts = len(header["lengths"])
    vectors = np.full((texts, DIMENSIONS), DIMENSIONS**-0.5, np.float32)
    return {"shape": vectors.shape, "stages": {}}, vectors.tobytes()


def main(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1024)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=[connection], daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
