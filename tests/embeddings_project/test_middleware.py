import io

import pytest
import structlog
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse

from embeddings_project.middleware import (
    RequestBodyMiddleware,
    RequestContextMiddleware,
)

LIMIT = 100


@pytest.fixture(autouse=True)
def small_limit(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = LIMIT


def answer(body, *, status=200, read=False, **environ):
    """Send `body` through the middleware to a view that reads it or not; return what was read and what is left."""
    stream = io.BytesIO(body)
    request = WSGIRequest(
        {"REQUEST_METHOD": "POST", "wsgi.input": stream, "PATH_INFO": "/", **environ}
    )
    seen = []

    def view(request):
        if read:
            seen.append(request.read())
        return HttpResponse(status=status)

    RequestBodyMiddleware(view)(request)
    return b"".join(seen), stream.read()


CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


def test_chunked_body_is_read_though_it_has_no_length():
    assert answer(b"body", read=True, **CHUNKED)[0] == b"body"


def test_chunked_body_is_read_no_further_than_a_byte_over_the_limit():
    assert len(answer(b"x" * 1000, read=True, **CHUNKED)[0]) == LIMIT + 1


def test_chunked_body_is_not_waited_for_where_the_server_does_not_mark_its_end():
    environ = {**CHUNKED, "wsgi.input_terminated": False}
    assert answer(b"body", read=True, **environ) == (b"", b"body")


def test_refused_requests_body_is_read_to_its_end():
    assert answer(b"x" * 150, status=401, CONTENT_LENGTH="150") == (b"", b"")


def test_refused_requests_body_is_left_alone_when_it_is_far_too_long():
    left = answer(b"x" * 1000, status=413, CONTENT_LENGTH="1000")[1]
    assert len(left) == 1000


def test_body_of_an_answered_request_is_left_alone():
    assert answer(b"x", status=200, CONTENT_LENGTH="1") == (b"", b"x")


def test_client_that_hangs_up_does_not_change_the_answer():
    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError("gone")

    request = WSGIRequest(
        {"REQUEST_METHOD": "POST", "wsgi.input": Broken(), "PATH_INFO": "/"}
    )
    refuse = RequestBodyMiddleware(lambda request: HttpResponse(status=401))
    assert refuse(request).status_code == 401


def test_request_id_ends_with_its_request():
    request = WSGIRequest(
        {"REQUEST_METHOD": "GET", "wsgi.input": io.BytesIO(), "PATH_INFO": "/"}
    )
    answer = RequestContextMiddleware(lambda request: HttpResponse())(request)
    assert answer["X-Request-ID"]
    assert structlog.contextvars.get_contextvars() == {}
