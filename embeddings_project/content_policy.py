"""What browsers may load and run in an answer (Content-Security-Policy)."""

from django.http import HttpRequest, HttpResponse

from embeddings_project.middleware import Handler

HEADER = "Content-Security-Policy"
# Data, files, errors in JSON: nothing to run, nothing to show in a frame.
DATA = "default-src 'none'; frame-ancestors 'none'"


# Styles and scripts are files of ours, and nothing evaluates text: the console runs Alpine's CSP build for that, with
# what static/embeddings/frame.js gives it.
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class ContentPolicyMiddleware:
    """Give pages the policy of pages, and all else that of data."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault(HEADER, _policy(response))
        return response


def _policy(response: HttpResponse) -> str:
    return PAGE if response.get("Content-Type", "").startswith("text/html") else DATA
