"""What browsers may load and run in an answer (Content-Security-Policy)."""

from django.http import HttpRequest, HttpResponse

from embeddings_project.middleware import Handler

HEADER = "Content-Security-Policy"
# Data, files, errors in JSON: nothing to run, nothing to show in a frame.
DATA = "default-src 'none'; frame-ancestors 'none'"


def _page(scripts: str) -> str:
    """Styles: both the console's framework and Swagger UI write some into their pages. No page contains a script."""
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


PAGE = _page("'self'")
CONSOLE = _page("'self' 'unsafe-eval'")  # Alpine evaluates attributes
CONSOLE_PREFIX = "/admin/"


class ContentPolicyMiddleware:
    """Give pages the policy of pages, and all else that of data."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault(HEADER, _policy(request, response))
        return response


def _policy(request: HttpRequest, response: HttpResponse) -> str:
    if not response.get("Content-Type", "").startswith("text/html"):
        return DATA
    return CONSOLE if request.path_info.startswith(CONSOLE_PREFIX) else PAGE
