"""An upstream that answers at once, as OpenAI does: `python -m benchmarks.peers.stub_upstream PORT [DIMENSIONS]`.

All texts have the same vector, which is written once; of a request only the number of texts and the format are read.
"""

import asyncio
import base64
import functools
import sys

import numpy as np
import orjson

BLANK = b"\r\n\r\n"


@functools.cache
def answer(texts: int, dimensions: int, *, as_base64: bool) -> bytes:
    """Return a whole HTTP answer."""
    vector = np.full(dimensions, dimensions**-0.5, dtype="<f4")
    embedding = (
        base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist()
    )
    body = orjson.dumps(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": embedding}
                for index in range(texts)
            ],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 8 * texts, "total_tokens": 8 * texts},
        }
    )
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


class Upstream(asyncio.Protocol):
    """One connection: requests with a Content-Length, one after another."""

    def __init__(self, dimensions: int = 1536) -> None:
        self._dimensions = dimensions
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(BLANK)) >= 0:
            head = self._received[:end].lower()
            _, _, length = head.partition(b"content-length:")
            whole = end + len(BLANK) + int(length.split(b"\r\n", 1)[0] or 0)
            if len(self._received) < whole:
                return
            body = self._received[end + len(BLANK) : whole]
            self._received = self._received[whole:]
            assert isinstance(self._transport, asyncio.Transport)  # noqa: S101
            self._transport.write(self.answer(body))

    def answer(self, body: bytes) -> bytes:
        """Return the whole answer to a request with this body."""
        asked = orjson.loads(body)
        given = asked["input"]
        texts = 1 if isinstance(given, str) else len(given)
        as_base64 = asked.get("encoding_format") == "base64"
        return answer(texts, self._dimensions, as_base64=as_base64)


async def serve(port: int, dimensions: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(dimensions), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int((sys.argv[2:] or ["1536"])[0])))
