"""An upstream whose vectors follow from the texts, so that each can be checked: `… known_upstream PORT`."""

import asyncio
import sys
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.peers.stub_upstream import Upstream

DIMENSIONS = 64


def vector_of(text: str) -> NDArray[np.float32]:
    """Return float32 (DIMENSIONS,), unit length."""
    numbers = np.random.default_rng(crc32(text.encode())).standard_normal(DIMENSIONS)
    unit: NDArray[np.float32] = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return unit


class KnownUpstream(Upstream):
    """Speaks as an OpenAI-compatible server does, in floats."""

    def answer(self, body: bytes) -> bytes:
        asked = orjson.loads(body)
        given = asked["input"]
        texts = [given] if isinstance(given, str) else given
        rows = [
            {"object": "embedding", "index": index, "embedding": vector_of(text)}
            for index, text in enumerate(texts)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        payload = orjson.dumps(
            {"object": "list", "data": rows, "model": asked["model"], "usage": usage},
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
        return f"{head}{len(payload)}\r\n\r\n".encode() + payload


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(KnownUpstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
