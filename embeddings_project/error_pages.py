"""What is answered where no view does: a page in the console's look for browsers, the API's JSON for everybody else."""

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from structlog.contextvars import get_contextvars

from embeddings.api import exception_handler
from embeddings.api.exception_handler import Problem, plain
from embeddings.fast_path.middleware import API_PREFIX

CONSOLE_PREFIX = "/admin/"


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    if not _wants_page(request):
        return exception_handler.not_found(request, exception)
    return _page(404, "Nothing here", f"There is no page at {request.path}.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    if not _wants_page(request):
        return plain(Problem(status=403, detail="This is not allowed."))
    words = "Your user lacks a permission for this. Whoever may change users and groups can give it."
    return _page(403, "Not allowed", words)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500. Asks the database for nothing: it may be the reason."""
    if not _wants_page(request):
        return exception_handler.server_error(request)
    words = "Something went wrong that nobody foresaw. The server's log has the details under this request id:"
    return _page(
        500, "The server failed", words, get_contextvars().get("request_id", "")
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """What CSRF_FAILURE_VIEW names."""
    if not _wants_page(request):
        return plain(Problem(status=403, detail=f"The form was not accepted: {reason}"))
    words = (
        "The form was open for too long, somebody logged in or out meanwhile, or the browser keeps no cookies."
        " Nothing was changed. Go back, load the page again, and send the form once more."
    )
    return _page(403, "The form was not accepted", words)


def _wants_page(request: HttpRequest) -> bool:
    path = request.path_info
    if path.startswith(API_PREFIX):
        return False
    return path.startswith(CONSOLE_PREFIX) or "text/html" in request.headers.get(
        "Accept", ""
    )


def _page(status: int, title: str, words: str, request_id: str = "") -> HttpResponse:
    page = {
        "title": title,
        "words": words,
        "request_id": request_id,
        "site_title": "Embeddings console",
        "site_url": reverse("docs"),
    }
    return HttpResponse(render_to_string("console/error.html", page), status=status)
