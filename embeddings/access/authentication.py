"""Who calls. Single-user mode: one key for everything, and its holder is the admin."""

import hmac

from rest_framework import authentication, exceptions
from rest_framework.request import Request

from embeddings.conf import conf
from embeddings.services.callers import SINGLE_USER, Caller

CHALLENGE = 'ApiKey realm="embeddings"'


class SingleUser:
    """The holder of the server's key."""

    is_authenticated = True
    is_staff = True
    is_active = True
    pk = None
    username = "single_user"


class SingleUserAuthentication(authentication.BaseAuthentication):
    """`X-API-KEY` must equal `SINGLE_USER_API_KEY`; with `SINGLE_USER_ACCEPT_BEARER` a Bearer token may, too."""

    def authenticate(self, request: Request) -> tuple[SingleUser, Caller]:
        given = request.headers.get("X-API-KEY")
        if given is None and conf().single_user_accept_bearer:
            given = bearer_token(request)
        if given is None:
            raise exceptions.AuthenticationFailed(self._missing(request))
        if not hmac.compare_digest(given.encode(), conf().single_user_api_key.encode()):
            raise exceptions.AuthenticationFailed(
                "The API key in X-API-KEY is not valid."
            )
        return SingleUser(), SINGLE_USER

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    @staticmethod
    def _missing(request: Request) -> str:
        if "Authorization" in request.headers:
            return (
                "This server takes its key in the X-API-KEY header; Authorization alone is not enough. With an SDK,"
                ' pass it as a default header: default_headers={"X-API-KEY": "<key>"} (JavaScript: defaultHeaders).'
            )
        return "Send the server's key in the X-API-KEY header."


def bearer_token(request: Request) -> str | None:
    """Return the token of `Authorization: Bearer <token>`, or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
