"""Whether the client of a request is still connected."""

import socket
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest


def client_left(request: HttpRequest) -> Callable[[], bool]:
    """Return a function that says whether the client has closed the connection; without a socket, it never has.

    A client that closes only its own half counts as gone, as with most servers and proxies.
    """
    connection: Any = request.META.get("gunicorn.socket")

    def left() -> bool:
        if not isinstance(connection, socket.socket) or connection.fileno() < 0:
            return False
        try:
            return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False  # nothing was sent, and the connection stands
        except ValueError:
            return False  # TLS: its layer can't be looked through
        except OSError:
            return True

    return left
