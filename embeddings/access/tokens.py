"""JSON web tokens: ours, and those of others who hold the same secret or the private key to our public one.

An access token needs no more than `sub` and `exp`. What this server makes carries two claims more: `token_type`, by
which a refresh token never passes for an access token nor the other way round, and `cred`, which a new password makes
stale.
"""

import functools
import hashlib
import hmac
import time
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import (
    ExpiredTokenError,
    TokenBackendError,
    TokenBackendExpiredToken,
    TokenError,
)

from embeddings.access.caller_lookup import known_users
from embeddings.access.row_memory import RowMemory
from embeddings.conf import AccessConf, conf
from providers.state.process import owned

MAX_TOKEN_LENGTH = 8192
MAX_USERNAME_LENGTH = 150
CREDENTIAL_CLAIM = "cred"
# What a signed but senseless token makes the libraries raise besides their own: exp 1e400, exp null, nesting.
SENSELESS = (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError)  # fmt: skip


class TokenRefused(Exception):
    """The token lets nobody in; the message is public."""


class OwnToken(tokens.Token):
    """A token under this server's keys. Without an id: nothing is kept of a token."""

    def get_token_backend(self) -> TokenBackend:
        return _backend(conf().access)

    def set_jti(self) -> None:
        """Leave it out."""


class AccessToken(OwnToken):
    """Lets its user call. May come from elsewhere, and then has no type; a refresh token is refused."""

    token_type = "access"  # noqa: S105

    def __init__(self, token: Any = None, verify: bool = True) -> None:  # noqa: FBT001, FBT002
        self.lifetime = timedelta(seconds=conf().access.access_token_seconds)
        super().__init__(token, verify)

    def verify_token_type(self) -> None:
        if self.payload.get("token_type") == RefreshToken.token_type:
            raise TokenError("A refresh token only serves to get a new access token.")


class RefreshToken(OwnToken):
    """Serves to get new access tokens. Only this server makes them."""

    token_type = "refresh"  # noqa: S105

    def __init__(self, token: Any = None, verify: bool = True) -> None:  # noqa: FBT001, FBT002
        self.lifetime = timedelta(seconds=conf().access.refresh_token_seconds)
        super().__init__(token, verify)


def make_tokens(user: User) -> dict[str, str]:
    """Return a new access and a new refresh token of `user`."""
    return {"access": make_access_token(user), "refresh": _made(RefreshToken, user)}


def make_access_token(user: User) -> str:
    """Return a new access token of `user`."""
    return _made(AccessToken, user)


def user_of_access_token(raw: str) -> User:
    """Return whom the token lets in, with the user's limits; not to be changed. Raises TokenRefused."""
    access = conf().access
    token = _verified(access, raw)
    if token["exp"] <= time.time() - access.jwt_leeway_seconds:
        raise TokenRefused("The token has expired.")
    return _user(token, credential_required=False)


def user_of_refresh_token(raw: str) -> User:
    """Return whose refresh token this is. Raises TokenRefused."""
    return _user(_read(RefreshToken, raw), credential_required=True)


@functools.lru_cache(maxsize=1024)
def _verified(access: AccessConf, raw: str) -> OwnToken:
    """Return an access token whose signature and claims are good. They stay so, but for its time."""
    return _read(AccessToken, raw)


def _made(kind: type[OwnToken], user: User) -> str:
    token = kind.for_user(user)
    token[CREDENTIAL_CLAIM] = _credential(user, conf().access.jwt_secret_key)
    return str(token)


def _read(kind: type[OwnToken], raw: str) -> OwnToken:
    """Check signature, time and type. Raises TokenRefused, whatever the token holds."""
    if len(raw) > MAX_TOKEN_LENGTH:
        raise TokenRefused("The token is too long.")
    try:
        return kind(raw)  # type: ignore[arg-type]
    except ExpiredTokenError as error:
        raise TokenRefused("The token has expired.") from error
    except (TokenError, *SENSELESS) as error:
        raise TokenRefused("The token is not valid.") from error


def _user(token: OwnToken, *, credential_required: bool) -> User:
    name = token.get("sub")
    # isprintable: NUL and lone surrogates would be the database's error, not the token's.
    if not isinstance(name, str) or not name.isprintable():
        raise TokenRefused("The token names no user.")
    user = _find(name)
    if user is None or not user.is_active:
        raise TokenRefused("The token's user is unknown or inactive.")
    credential = token.get(CREDENTIAL_CLAIM)
    if credential is None and not credential_required:
        return user
    access = conf().access
    if not any(
        hmac.compare_digest(str(credential).encode(), _credential(user, key).encode())
        for key in (access.jwt_secret_key, access.former_jwt_secret_key)
        if key
    ):
        raise TokenRefused("The token is older than the user's password.")
    return user


def _find(name: str) -> User | None:
    if not 0 < len(name) <= MAX_USERNAME_LENGTH:
        return None
    return users_by_name().find(name)


@owned
def users_by_name() -> RowMemory[User]:
    """Return the process-wide memory of users."""
    return RowMemory(known_users(), "username")


def _credential(user: User, key: str) -> str:
    """Return a mark of the user's present password, under the key that signs the token."""
    return hmac.new(key.encode(), user.password.encode(), hashlib.sha256).hexdigest()[
        :16
    ]


class RotatingBackend(TokenBackend):
    """Verifies with the former key, too, while there is one."""

    former: TokenBackend | None = None

    def decode(self, token: Any, verify: bool = True) -> Any:  # noqa: FBT001, FBT002 - as in the base
        try:
            return super().decode(token, verify)
        except TokenBackendExpiredToken:
            raise  # the signature was good
        except TokenBackendError:
            if self.former is None:
                raise
            return self.former.decode(token, verify)


@functools.lru_cache(maxsize=8)
def _backend(access: AccessConf) -> TokenBackend:
    """Return what signs and verifies: one algorithm, whatever a token's own header says."""
    backend = RotatingBackend(
        **_keys(access.jwt_secret_key, access.jwt_public_key, access)
    )
    secret, public = access.former_jwt_secret_key, access.former_jwt_public_key
    # Only the key that this algorithm verifies with: to be without one would be to verify with an empty one.
    if secret if access.jwt_algorithm == "HS256" else public:
        backend.former = TokenBackend(**_keys(secret, public, access))
    return backend


def _keys(secret: str, public: str, access: AccessConf) -> dict[str, Any]:
    return {
        "algorithm": access.jwt_algorithm,
        "signing_key": secret,
        "verifying_key": public,
        "audience": access.jwt_audience,
        "issuer": access.jwt_issuer,
        "leeway": access.jwt_leeway_seconds,
    }
