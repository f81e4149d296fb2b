"""Who may read /metrics: whoever is on this machine, whoever has the token for it, and admins."""

import hmac
import ipaddress
from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from embeddings.access.authentication import (
    BEARER_CHALLENGE,
    CallerAuthentication,
    bearer_token,
)
from embeddings.access.guesses import refuse_guess
from embeddings.conf import conf
from embeddings.services.callers import Caller

SCRAPER = Caller(
    id="metrics",
    username="metrics",
    is_admin=False,
    permissions=frozenset({"embeddings.view_usagehour"}),
)
# What proxies add: with one of these, a peer on this machine speaks for somebody else.
FORWARDING = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")
FORWARDING_START = "HTTP_X_FORWARDED_"
WAYS = (
    "Send METRICS_TOKEN as Authorization: Bearer, or an admin's key; METRICS_OPEN=true opens /metrics to everybody, and"
    " a scraper on this machine needs nothing while no proxy stands in front."
)


class ScraperAuthentication(authentication.BaseAuthentication):
    """Let scrapers in, and whoever may call at all."""

    def authenticate(self, request: Request) -> tuple[Any, Caller]:
        if conf().access.metrics_open or is_local(request) or _has_token(request):
            return AnonymousUser(), SCRAPER
        try:
            return CallerAuthentication().authenticate(request)
        except exceptions.AuthenticationFailed as error:
            if _is_guess_of_the_token(request):
                refuse_guess(request, "metrics token")
            raise exceptions.AuthenticationFailed(WAYS) from error

    def authenticate_header(self, request: Request) -> str:
        return BEARER_CHALLENGE


def is_local(request: Request) -> bool:
    """Whether the request comes from this machine, on nobody else's behalf as far as can be seen."""
    if conf().access.trusted_proxies or any(
        name in FORWARDING or name.startswith(FORWARDING_START) for name in request.META
    ):
        return False
    try:
        peer = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False  # a Unix socket: a proxy's
    return (getattr(peer, "ipv4_mapped", None) or peer).is_loopback


def _has_token(request: Request) -> bool:
    token, given = conf().access.metrics_token, bearer_token(request)
    return bool(token and given) and hmac.compare_digest(
        (given or "").encode(), token.encode()
    )


def _is_guess_of_the_token(request: Request) -> bool:
    """Whether a Bearer came that nobody has counted as a wrong credential."""
    counted = conf().access.multi_user or conf().single_user_accept_bearer
    return not counted and bool(conf().access.metrics_token and bearer_token(request))
