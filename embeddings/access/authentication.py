"""Who calls. Single-user mode: one key for everything. Multi-user mode: tokens and keys of users."""

import hmac
from typing import cast

from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from embeddings.access.api_keys import (
    KEY_START,
    find_key,
    keys_by_prefix,
    keys_in_use,
    public_part,
    use_notes,
)
from embeddings.access.caller_lookup import shared_caller
from embeddings.access.guesses import (
    TooManyGuesses,
    note_guess,
    refuse_guess,
    seconds_to_wait,
)
from embeddings.access.tokens import TokenRefused, user_of_access_token
from embeddings.conf import conf
from embeddings.models import ApiKey
from embeddings.services.callers import SINGLE_USER, Caller

CHALLENGE = 'ApiKey realm="embeddings"'
BEARER_CHALLENGE = 'Bearer realm="embeddings"'
SERVERS_KEY = "server key"
CALLER = "embeddings.caller"


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
        given, ours = [request.META.get("HTTP_X_API_KEY")], conf()
        if ours.single_user_accept_bearer:
            given.append(bearer_token(request))
        sent = [text for text in given if text is not None]
        key = ours.single_user_api_key.encode()
        wrong = [text for text in sent if not _is_the_key(text, key)]
        if len(wrong) == len(sent):
            for _ in wrong:
                refuse_guess(request, SERVERS_KEY)
            raise exceptions.AuthenticationFailed(self._problem(request, given[0]))
        for text in wrong:
            note_guess(request, text, SERVERS_KEY)
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
        problems: dict[str, Exception] = {}
        for text in given:
            try:
                found.append(_known(request, text, is_key=text != bearer))
            except (
                TokenRefused,
                TooManyGuesses,
                exceptions.AuthenticationFailed,
            ) as error:
                problems[text] = error
            except (DatabaseError, InterfaceError) as error:
                raise KeysUnavailable from error
        if not found:
            raise _refusal(request, problems)
        for text in problems:
            note_guess(request, text, _kind(text))
        return _one_of(found)

    def authenticate_header(self, request: Request) -> str:
        return BEARER_CHALLENGE


class CallerAuthentication(authentication.BaseAuthentication):
    """Authenticate as `AUTH_MODE` says."""

    def authenticate(
        self, request: Request
    ) -> tuple[SingleUser, Caller] | tuple[User, Caller]:
        user, caller = _mode().authenticate(request)
        request.META[CALLER] = caller  # for the request's log line
        return user, caller  # type: ignore[return-value]  # of the same kind

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


def _mode() -> SingleUserAuthentication | MultiUserAuthentication:
    multi_user = conf().access.multi_user
    return MultiUserAuthentication() if multi_user else SingleUserAuthentication()


def _is_the_key(given: str, key: bytes) -> bool:
    """Whether this is the server's key, in constant time; a key may have commas of its own."""
    return any(hmac.compare_digest(text.encode(), key) for text in (given, once(given)))


def _known(request: Request, text: str, *, is_key: bool) -> tuple[User, Caller]:
    """Return whose key or token `text` is. Raises AuthenticationFailed, TokenRefused, TooManyGuesses."""
    if not is_key and not text.startswith(KEY_START):
        user = user_of_access_token(text)
        return user, shared_caller(user)
    key = _found(request, text)
    if key is None or not key.user.is_active:
        raise exceptions.AuthenticationFailed("The API key is not valid.")
    if key.status != "active":
        raise exceptions.AuthenticationFailed(f"The API key is {key.status}.")
    use_notes().note(key)
    return key.user, shared_caller(key)


def _found(request: Request, text: str) -> ApiKey | None:
    """Return the key with this text. Raises TooManyGuesses, and does not ask the database, for one that is not in use
    where too many wrong ones came from.
    """
    prefix = public_part(text)
    if prefix and not keys_by_prefix().remembers(prefix):
        seconds = seconds_to_wait(request)
        if seconds and prefix not in keys_in_use().get():
            raise TooManyGuesses(seconds)
    return find_key(text)


def _refusal(request: Request, problems: dict[str, Exception]) -> Exception:
    """Return what to answer where nothing that was sent is valid. Raises TooManyGuesses."""
    for error in problems.values():
        if isinstance(error, TooManyGuesses):
            return error
    for text in problems:
        refuse_guess(request, _kind(text))
    first = next(iter(problems))
    refusal = exceptions.AuthenticationFailed(str(problems[first]))
    refusal.__cause__ = problems[first]
    return refusal


def _kind(text: str) -> str:
    """Say for the log what `text` was to be: a key by the part of it that everyone may see."""
    if prefix := public_part(text):
        return f"key {prefix}"
    return "key" if text.startswith(KEY_START) else "token"


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


def caller_of(request: Request) -> Caller:
    """Return whom authentication found."""
    return cast(Caller, request.auth)
