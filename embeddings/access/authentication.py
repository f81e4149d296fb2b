"""Who calls. Single-user mode: one key for everything. Multi-user mode: tokens and keys of users."""

import hmac

from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from embeddings.access.api_keys import KEY_START, find_key, use_notes
from embeddings.access.callers import shared_caller
from embeddings.access.tokens import TokenRefused, user_of_access_token
from embeddings.conf import conf
from embeddings.services.callers import SINGLE_USER, Caller

CHALLENGE = 'ApiKey realm="embeddings"'
BEARER_CHALLENGE = 'Bearer realm="embeddings"'


class SingleUser:
    """The holder of the server's key."""

    is_authenticated = True
    is_staff = True
    is_active = True
    pk = None
    username = "single_user"


class KeysUnavailable(exceptions.APIException):
    """The database, and so everyone's key, is away."""

    status_code = 503
    default_detail = "Keys cannot be checked now, since the database does not answer."
    wait = 5


class SingleUserAuthentication(authentication.BaseAuthentication):
    """`X-API-KEY` must equal `SINGLE_USER_API_KEY`; with `SINGLE_USER_ACCEPT_BEARER` a Bearer token may, too."""

    def authenticate(self, request: Request) -> tuple[SingleUser, Caller]:
        given = request.META.get("HTTP_X_API_KEY")
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
        if "HTTP_AUTHORIZATION" in request.META:
            return (
                "This server takes its key in the X-API-KEY header; Authorization alone is not enough. With an SDK,"
                ' pass it as a default header: default_headers={"X-API-KEY": "<key>"} (JavaScript: defaultHeaders).'
            )
        return "Send the server's key in the X-API-KEY header."


class MultiUserAuthentication(authentication.BaseAuthentication):
    """A user's token as `Authorization: Bearer`, or a user's API key there or as `X-API-KEY`."""

    def authenticate(self, request: Request) -> tuple[User, Caller]:
        key, bearer = request.META.get("HTTP_X_API_KEY"), bearer_token(request)
        # A dict, not a set: in the order of sending, and the same key sent twice is looked up once.
        given = list(dict.fromkeys(text for text in (key, bearer) if text is not None))
        if not given:
            raise exceptions.AuthenticationFailed(
                "Send an API key (as X-API-KEY, or as Authorization: Bearer sk-...)"
                " or a token (as Authorization: Bearer <token>)."
            )
        try:
            return _one_of([_known(text, is_key=text == key) for text in given])
        except TokenRefused as error:
            raise exceptions.AuthenticationFailed(str(error)) from error
        except (DatabaseError, InterfaceError) as error:
            raise KeysUnavailable from error

    def authenticate_header(self, request: Request) -> str:
        return BEARER_CHALLENGE


class CallerAuthentication(authentication.BaseAuthentication):
    """Authenticate as `AUTH_MODE` says."""

    def authenticate(
        self, request: Request
    ) -> tuple[SingleUser, Caller] | tuple[User, Caller]:
        return _mode().authenticate(request)

    def authenticate_header(self, request: Request) -> str:
        return _mode().authenticate_header(request)


def bearer_token(request: Request) -> str | None:
    """Return the token of `Authorization: Bearer <token>`, or None."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _mode() -> SingleUserAuthentication | MultiUserAuthentication:
    multi_user = conf().access.multi_user
    return MultiUserAuthentication() if multi_user else SingleUserAuthentication()


def _known(text: str, *, is_key: bool) -> tuple[User, Caller]:
    """Return whose key or token `text` is. Raises AuthenticationFailed, TokenRefused."""
    if not is_key and not text.startswith(KEY_START):
        user = user_of_access_token(text)
        return user, shared_caller(user)
    key = find_key(text)
    if key is None or not key.user.is_active:
        raise exceptions.AuthenticationFailed("The API key is not valid.")
    if key.status != "active":
        raise exceptions.AuthenticationFailed(f"The API key is {key.status}.")
    use_notes().note(key)
    return key.user, shared_caller(key)


def _one_of(found: list[tuple[User, Caller]]) -> tuple[User, Caller]:
    """Return the one caller. A user's token beside the same user's key is no contradiction: the key counts."""
    if len(found) == 1:
        return found[0]
    keys = [caller for _, caller in found if caller.key_id is not None]
    if len({caller.user_id for _, caller in found}) > 1 or len(keys) > 1:
        raise exceptions.AuthenticationFailed(
            "X-API-KEY and Authorization name two callers; send one of them."
        )
    return next((one for one in found if one[1].key_id is not None), found[0])
