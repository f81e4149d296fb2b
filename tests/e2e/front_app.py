"""A WSGI application that does what a test asks of it, under the product's worker class."""

import hashlib
import json
import os
import time
from pathlib import Path

import django
from django.core.handlers.wsgi import WSGIRequest

django.setup()

from embeddings_project.middleware import client_left  # noqa: E402

FOLDER = Path(os.environ.get("FRONT_TEST_FOLDER", "."))
PIECE = bytes(range(256)) * 256
JSON = [("Content-Type", "application/json")]


def application(environ, start):
    _, word, *rest = environ["PATH_INFO"].split("/")
    return getattr(Ways, word.replace("-", "_"))(environ, start, *rest)


class Ways:
    """What the first word of the path asks for."""

    @staticmethod
    def healthz(environ, start):
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    readyz = healthz

    @staticmethod
    def echo(environ, start):
        body = environ["wsgi.input"].read()
        seen = {name: value for name, value in environ.items() if name.isupper()}
        sha256 = hashlib.sha256(body).hexdigest()
        answer = json.dumps({"seen": seen, "size": len(body), "sha256": sha256})
        start("200 OK", [*JSON, ("Content-Length", str(len(answer)))])
        return [answer.encode()]

    @staticmethod
    def stream(environ, start, pieces):
        start("200 OK", JSON)
        return (PIECE for _ in range(int(pieces)))

    @staticmethod
    def large(environ, start, pieces):
        answer = PIECE * int(pieces)
        start("200 OK", [*JSON, ("Content-Length", str(len(answer)))])
        return [answer]

    @staticmethod
    def wait(environ, start, name):
        """Say in a file that the request is under way, and answer once another file is there."""
        (FOLDER / f"{name}.began").touch()
        while not (FOLDER / name).exists():
            time.sleep(0.01)
        start("200 OK", [("Content-Length", "4")])
        return [b"done"]

    @staticmethod
    def leave(environ, start, name):
        """Say in a file that the client is gone."""
        left = client_left(WSGIRequest(environ))
        (FOLDER / f"{name}.began").touch()
        while not left():
            time.sleep(0.01)
        (FOLDER / f"{name}.left").touch()
        start("200 OK", [("Content-Length", "0")])
        return []

    @staticmethod
    def fail(environ, start):
        raise LookupError("on purpose")

    @staticmethod
    def fail_later(environ, start):
        start("200 OK", JSON)
        yield PIECE
        raise LookupError("on purpose")

    @staticmethod
    def too_short(environ, start):
        start("200 OK", [("Content-Length", "10")])
        return [b"short"]

    @staticmethod
    def too_long(environ, start):
        start("200 OK", [("Content-Length", "5")])
        return [b"short and more"]

    @staticmethod
    def split(environ, start):
        start("200 OK", [("X-A", "b\r\nX-C: d")])
        return [b""]

    @staticmethod
    def nothing(environ, start):
        start("204 No Content", [])
        return []
