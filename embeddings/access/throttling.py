"""How often callers may come, and whether they still have budget: REST framework's side of limiter and budgets."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from embeddings.access.client_address import client_address
from embeddings.access.guesses import TooManyGuesses
from embeddings.access.limiter.gcra import MICROSECONDS, Rate, Standing
from embeddings.access.limiter.limiter import limiter
from embeddings.conf import conf
from embeddings.headers import RATE_LIMITS
from embeddings.services.callers import Caller, CallerLimits
from embeddings.services.usage.budgets import check_budgets
from embeddings.services.usage.ledger import usage


class RateLimited(exceptions.APIException):
    """The caller's bucket is empty. `wait`: whole seconds after which it will hold one more."""

    status_code = 429
    default_code = "rate_limit_exceeded"

    def __init__(self, standing: Standing, *, kind: str, per_minute: int) -> None:
        self.wait = max(1, math.ceil(standing.retry_after / MICROSECONDS))
        seconds = "1 second" if self.wait == 1 else f"{self.wait} seconds"
        super().__init__(
            f"Too many {kind}: the limit is {per_minute} a minute; try again in {seconds}."
        )


class CallerThrottle(BaseThrottle):
    """Let a caller through if its budgets, its tokens and its requests allow it."""

    spends = True

    def allow_request(self, request: Request, view: APIView) -> bool:
        caller = request.auth
        if isinstance(caller, Caller):
            admit(caller, view, spends=self.spends)
        elif takes_part():
            _admit(f"ip:{client_address(request._request)}", CallerLimits(), view)
        return True


class FreeThrottle(CallerThrottle):
    """The same for what no budget pays for."""

    spends = False


class LimitedView(APIView):
    """A view that takes part in the limiter and says in every answer where the caller stands."""

    throttle_classes = (CallerThrottle,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Count those who fail to authenticate by their address."""
        try:
            super().initial(request, *args, **kwargs)
        except (
            exceptions.AuthenticationFailed,
            exceptions.NotAuthenticated,
            TooManyGuesses,
        ):
            if takes_part():
                _admit(f"ip:{client_address(request._request)}", CallerLimits(), self)
            raise

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        for name, value in limit_headers(self).items():
            response[name] = value
        return super().finalize_response(request, response, *args, **kwargs)

    def charge_tokens(self, request: Request, tokens: int) -> None:
        """Take what was really used from the caller's tokens a minute."""
        if isinstance(request.auth, Caller):
            charge(request.auth, self, tokens)


class ConsoleUse:
    """One use of the models by somebody in the console: limited, and charged, as the API does it."""

    def __init__(self, caller: Caller) -> None:
        """Begin. Raises RateLimited, BudgetExhausted."""
        self._caller = caller
        admit(caller, self)

    def charge(self, tokens: int) -> dict[str, str]:
        """Take what was used from the caller's tokens a minute; return the headers that say where it stands."""
        charge(self._caller, self, tokens)
        return limit_headers(self)


@contextlib.contextmanager
def refusals_counted(request: Request) -> Iterator[None]:
    """Count as the caller's error what fails before it is known which model was meant."""
    try:
        yield
    except Exception:
        if isinstance(request.auth, Caller):
            usage().failed(request.auth)
        raise


def admit(caller: Caller, view: Any, *, spends: bool = True) -> None:
    """Let a caller through if its budgets, its tokens and its requests allow it, and note on `view` where it stands.

    Raises BudgetExhausted, RateLimited.
    """
    if spends:
        check_budgets(caller)
    if takes_part():
        owner = caller.limits_owner("requests_per_minute", "burst")
        tokens_owner = caller.limits_owner("tokens_per_minute")
        _admit(f"caller:{owner}", caller.limits, view, tokens_of=tokens_owner)


def charge(caller: Caller, view: Any, tokens: int) -> None:
    """Take `tokens` from the caller's tokens a minute, and note on `view` where it stands then."""
    rate = _token_rate(caller.limits)
    if rate and takes_part():
        key = _token_key(caller.limits_owner("tokens_per_minute"))
        view.tokens_standing = limiter().charge(key, rate, tokens)


def limit_headers(view: Any) -> dict[str, str]:
    """Return the headers that say what was noted on `view`."""
    return {
        name: value
        for kind, names in RATE_LIMITS.items()
        if (standing := getattr(view, f"{kind}_standing", None))
        for name, value in zip(names, _figures(standing), strict=True)
    }


def takes_part() -> bool:
    """Whether the embeddings endpoints are limited at all."""
    limiter_conf = conf().limiter
    return limiter_conf.enabled and limiter_conf.embeddings


def _admit(key: str, limits: CallerLimits, view: Any, *, tokens_of: str = "") -> None:
    """Take one request from the bucket of `key`. Raises RateLimited, whose wait holds for requests and tokens both."""
    rate = _rate(limits)
    if tokens := _token_rate(limits):
        left = limiter().any_left(_token_key(tokens_of), tokens)
        view.tokens_standing = left
        if not left.allowed:
            view.requests_standing = at_requests = limiter().look(key, rate)
            longest = max(left, at_requests, key=lambda standing: standing.retry_after)
            raise RateLimited(longest, kind="tokens", per_minute=tokens.per_minute)
    view.requests_standing = standing = limiter().take(key, rate)
    if not standing.allowed:
        raise RateLimited(standing, kind="requests", per_minute=rate.per_minute)


def _rate(limits: CallerLimits) -> Rate:
    return Rate(
        per_minute=_own(limits.requests_per_minute, conf().limiter.per_minute),
        burst=_own(limits.burst, conf().limiter.burst),
    )


def _token_rate(limits: CallerLimits) -> Rate | None:
    if limits.tokens_per_minute is None:
        return None
    per_minute = max(1, limits.tokens_per_minute)
    return Rate(per_minute=per_minute, burst=per_minute)


def _own(limit: int | None, default: int) -> int:
    """Return the caller's own limit, at least 1: a bucket cannot be empty for ever."""
    return default if limit is None else max(1, limit)


def _token_key(caller_id: str) -> str:
    return f"tokens:{caller_id}"


def _figures(standing: Standing) -> tuple[str, str, str]:
    return (
        str(standing.limit),
        str(standing.remaining),
        duration(standing.reset_after),
    )


def duration(microseconds: int) -> str:
    """Write a time as OpenAI does, rounded up to milliseconds: 0s, 120ms, 8.64s, 6m0s, 1h0m0s."""
    milliseconds = -(-microseconds // 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
