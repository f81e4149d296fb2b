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
WRONG_BESIDE = "embeddings.wrong_credential"


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
        given = [request.META.get("HTTP_X_API_KEY")]
        if conf().single_user_accept_bearer:
            given.append(bearer_token(request))
        right = [_is_the_key(text) for text in given if text is not None]
        if not any(right):
            raise exceptions.AuthenticationFailed(self._problem(request, given[0]))
        if not all(right):
            note_wrong_credential(request)
        return SingleUser(), SINGLE_USER

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    @staticmethod
    def _problem(request: Request, key: str | None) -> str:
        """Say what is wrong, and both ways out: the header, and the operator's setting for clients without it."""
        authorized = "HTTP_AUTHORIZATION" in request.META
        if conf().single_user_accept_bearer:
            wrong = "What was sent is not valid. " if key or authorized else ""
            return f"{wrong}Send the server's key in the X-API-KEY header, or as Authorization: Bearer <key>."
        setting = "the operator can let Authorization: Bearer do with SINGLE_USER_ACCEPT_BEARER=true"
        if key is not None:
            return f"The API key in X-API-KEY is not valid; {setting}."
        if authorized:
            return (
                "This server takes its key in the X-API-KEY header; Authorization alone is not enough. With an SDK,"
                ' pass it as a default header: default_headers={"X-API-KEY": "<key>"} (JavaScript: defaultHeaders).'
                f" For a client that sends no headers of your own, {setting}."
            )
        return f"Send the server's key in the X-API-KEY header; {setting}."


class MultiUserAuthentication(authentication.BaseAuthentication):
    """A user's token as `Authorization: Bearer`, or a user's API key there or as `X-API-KEY`.

    One that is valid will do, whatever the other header holds, unless that is valid for another caller.
    """

    def authenticate(self, request: Request) -> tuple[User, Caller]:
        key, bearer = request.META.get("HTTP_X_API_KEY"), bearer_token(request)
        given = list(dict.fromkeys(once(t) for t in (key, bearer) if t is not None))
        if not given:
            raise exceptions.AuthenticationFailed(
                "Send an API key (as X-API-KEY, or as Authorization: Bearer sk-...)"
                " or a token (as Authorization: Bearer <token>)."
            )
        found: list[tuple[User, Caller]] = []
        problems: list[Exception] = []
        for text in given:
            try:
                found.append(_known(text, is_key=text != bearer))
            except (TokenRefused, exceptions.AuthenticationFailed) as error:
                problems.append(error)
            except (DatabaseError, InterfaceError) as error:
                raise KeysUnavailable from error
        if not found:
            raise exceptions.AuthenticationFailed(str(problems[0])) from problems[0]
        if problems:
            note_wrong_credential(request)
        return _one_of(found)

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
    scheme, _, token = once(request.META.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def once(value: str) -> str:
    """Return a header's value; of one that was sent several times with the same value, which WSGI joins, that value."""
    values = {part.strip() for part in value.split(",")} if "," in value else {value}
    return values.pop() if len(values) == 1 else value


def note_wrong_credential(request: Request) -> None:
    """Remember that a wrong credential came beside a good one: it counts as a guess, and refuses nothing."""
    request.META[WRONG_BESIDE] = True


def wrong_credential_came(request: Request) -> bool:
    """Whether this request, which was let in, brought a wrong credential, too."""
    return WRONG_BESIDE in request.META


def _mode() -> SingleUserAuthentication | MultiUserAuthentication:
    multi_user = conf().access.multi_user
    return MultiUserAuthentication() if multi_user else SingleUserAuthentication()


def _is_the_key(given: str) -> bool:
    """Whether this is the server's key, in constant time; a key may have commas of its own."""
    key = conf().single_user_api_key.encode()
    return any(hmac.compare_digest(text.encode(), key) for text in (given, once(given)))


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
