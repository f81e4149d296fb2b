"""Logging in for tokens, and staying logged in."""

import math

from django.contrib.auth import authenticate
from django.contrib.auth.models import User, update_last_login
from django.http import HttpRequest
from rest_framework import exceptions

from embeddings.access.client_address import client_address
from embeddings.access.guesses import refuse_guess
from embeddings.access.login_guard import LockedOut, guarded_login
from embeddings.access.tokens import (
    TokenRefused,
    make_access_token,
    make_tokens,
    user_of_refresh_token,
)


class TooManyLogins(exceptions.Throttled):
    """Somebody guesses passwords."""

    extra_detail_singular = extra_detail_plural = ""
    default_detail = "Too many failed logins; Retry-After says when to try again."


def log_in(request: HttpRequest, *, username: str, password: str) -> dict[str, str]:
    """Return an access and a refresh token. Raises AuthenticationFailed, TooManyLogins."""
    try:
        with guarded_login(username=username, address=client_address(request)):
            user = _checked(request, username, password)
    except LockedOut as locked:
        raise TooManyLogins(wait=math.ceil(locked.retry_after_seconds)) from locked
    update_last_login(User, user)
    return make_tokens(user)


def refreshed(request: HttpRequest, token: str) -> str:
    """Return a new access token. Raises AuthenticationFailed, TooManyGuesses."""
    try:
        return make_access_token(user_of_refresh_token(token))
    except TokenRefused as error:
        refuse_guess(request, "refresh token")
        raise exceptions.AuthenticationFailed(str(error)) from error


def _checked(request: HttpRequest, username: str, password: str) -> User:
    """Return the user. An unknown one takes as long as a known one: Django still hashes the password."""
    user = authenticate(request, username=username, password=password)
    if not isinstance(user, User):
        raise exceptions.AuthenticationFailed("Username or password is not right.")
    return user
