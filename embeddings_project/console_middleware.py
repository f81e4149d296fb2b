"""Django's middleware for pages with logins and forms. The API knows neither, so its requests pass it by."""

from typing import Any

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.deprecation import MiddlewareMixin

API_PREFIX = "/api/"


class BesideTheApi(MiddlewareMixin):
    """Put before a middleware's class: what is under the API's prefix goes straight on."""

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(API_PREFIX):
            return self.get_response(request)
        return super().__call__(request)


class ConsoleSessionMiddleware(BesideTheApi, SessionMiddleware):
    """Sessions."""


class ConsoleCsrfMiddleware(BesideTheApi, CsrfViewMiddleware):
    """Forms that only our own pages can send."""


class ConsoleAuthenticationMiddleware(BesideTheApi, AuthenticationMiddleware):
    """`request.user` from the session."""


class ConsoleMessageMiddleware(BesideTheApi, MessageMiddleware):
    """What a page says after a redirect."""
