"""Tokens for a password, and API keys. Multi-user mode only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeVar, cast

from django.contrib.auth.models import User
from django.db import transaction
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
)
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.access import api_keys
from embeddings.access.authentication import BEARER_CHALLENGE, caller_of
from embeddings.access.permissions import MayManageKeys
from embeddings.access.rights import Rights
from embeddings.access.sessions import log_in, refreshed
from embeddings.api.json_types import filled
from embeddings.api.schema import With
from embeddings.api.serializers import (
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from embeddings.conf import conf
from embeddings.fast_path.rest_framework import validated
from embeddings.headers import CACHE_CONTROL
from embeddings.models import ApiKey
from embeddings.services.audit import record_api, snapshot
from embeddings.services.callers import CallerLimits, refusal

T = TypeVar("T")

NOT_KEPT = {CACHE_CONTROL: "no-store"}
VIEW, ADD, CHANGE = (f"embeddings.{act}_apikey" for act in ("view", "add", "change"))
USER = OpenApiParameter(
    "user", str, description="For admins with the permission for it: whose keys."
)
MAX_COUNT = 2**31 - 1  # what the database's column holds
MAX_MONTHLY_TOKENS = 2**53 - 1  # what JavaScript counts exactly
MAX_COST_USD = 10_000_000


@extend_schema_field({"type": "number", "minimum": 0, "maximum": MAX_COST_USD})
class CostField(serializers.Field[Decimal, Any, float, Any]):
    """US dollars, to four places."""

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError("must be a number.")
        if not math.isfinite(data) or not 0 <= data <= MAX_COST_USD:
            raise serializers.ValidationError(f"must lie between 0 and {MAX_COST_USD}.")
        return Decimal(str(data)).quantize(Decimal("0.0001"))


@extend_schema_field(
    {
        "type": "array",
        "maxItems": api_keys.MAX_PATTERNS,
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": api_keys.MAX_PATTERN_LENGTH,
            "pattern": r"^[^*\s]+\*?$|^\*$",
        },
    }
)
class PatternsField(serializers.Field[list[str], Any, list[str], Any]):
    """A list of names, exact or ending in `*`; the service checks each."""

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list) or not all(isinstance(d, str) for d in data):
            raise serializers.ValidationError("must be a list of strings.")
        if any("\0" in pattern for pattern in data):
            raise serializers.ValidationError("must not contain NUL characters.")
        return data


class LimitsSerializer(StrictSerializer):
    """The limits of a key."""

    requests_per_minute = StrictIntegerField(
        min_value=1, max_value=MAX_COUNT, required=False
    )
    burst = StrictIntegerField(min_value=1, max_value=MAX_COUNT, required=False)
    tokens_per_minute = StrictIntegerField(
        min_value=1, max_value=MAX_COUNT, required=False
    )
    monthly_tokens = StrictIntegerField(
        min_value=0, max_value=MAX_MONTHLY_TOKENS, required=False
    )
    monthly_cost_usd = CostField(required=False)


class NewKeySerializer(StrictSerializer):
    """The body of `POST /auth/keys`."""

    name = StrictCharField(max_length=100, allow_blank=True, required=False)
    expires_in_days = StrictIntegerField(min_value=1, max_value=3650, required=False)
    allowed_providers = PatternsField(required=False)
    allowed_models = PatternsField(required=False)
    read_only_media = StrictBooleanField(required=False)
    limits = LimitsSerializer(required=False)


class LoginSerializer(StrictSerializer):
    """The body of `POST /auth/token`."""

    username = StrictCharField(max_length=150)
    password = StrictCharField(max_length=1024)


class RefreshSerializer(StrictSerializer):
    """The body of `POST /auth/token/refresh`."""

    refresh = StrictCharField(max_length=8192)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    access: str
    refresh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccessToken:
    access: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as its owner sees it afterwards: never its text."""

    id: int
    name: str
    prefix: str
    user: str
    status: Literal["active", "revoked", "expired"]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    allowed_providers: list[str]
    allowed_models: list[str]
    read_only_media: bool
    limits: CallerLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeyAnswer(Key):
    """The only place where a key's text is ever shown."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList:
    data: list[Key]


class TokenView(APIView):
    """A view that makes tokens, and so asks for none."""

    authentication_classes = ()
    permission_classes = ()
    documented_errors = (400, 401, 405, 413, 415, 429, 500)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not conf().access.multi_user:
            raise exceptions.NotFound("There are no tokens in single-user mode.")
        if not conf().access.makes_tokens:
            raise exceptions.NotFound(
                "This server makes no tokens: it verifies those of another with a public key."
            )

    def get_authenticate_header(self, request: Request) -> str:
        return BEARER_CHALLENGE


class CreateToken(TokenView):
    """Trade a username and a password for an access and a refresh token."""

    @extend_schema(
        operation_id="create_token",
        request=LoginSerializer,
        responses={200: With(Tokens, (CACHE_CONTROL,))},
        examples=[
            OpenApiExample(
                "A login",
                value={"username": "ada", "password": "correct horse battery"},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        body = validated(LoginSerializer, request)
        tokens = log_in(request._request, **body)
        return Response(Tokens(**tokens), headers=NOT_KEPT)


class RenewToken(TokenView):
    """Trade a refresh token for a new access token."""

    @extend_schema(
        operation_id="refresh_token",
        request=RefreshSerializer,
        responses={200: With(NewAccessToken, (CACHE_CONTROL,))},
        examples=[
            OpenApiExample(
                "A refresh token", value={"refresh": "eyJ..."}, request_only=True
            )
        ],
    )
    def post(self, request: Request) -> Response:
        body = validated(RefreshSerializer, request)
        access = refreshed(request._request, body["refresh"])
        return Response(NewAccessToken(access=access), headers=NOT_KEPT)


class KeyView(APIView):
    """A view on keys: a caller's own, or for admins anyone's."""

    permission_classes = (MayManageKeys,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not conf().access.multi_user:
            raise exceptions.NotFound("Single-user mode has one key only.")


class Keys(KeyView):
    """The keys of one user."""

    @extend_schema(
        operation_id="list_api_keys",
        parameters=[USER],
        responses={200: KeyList},
    )
    def get(self, request: Request) -> Response:
        user = _whose(request, VIEW, CHANGE)
        keys = ApiKey.objects.filter(user=user).select_related("user")
        return Response(KeyList(data=[_shown(Key, key) for key in keys]))

    @extend_schema(
        operation_id="create_api_key",
        parameters=[USER],
        request=NewKeySerializer,
        responses={201: With(NewKeyAnswer, (CACHE_CONTROL,))},
        examples=[
            OpenApiExample(
                "A key for one model",
                value={
                    "name": "notebook",
                    "expires_in_days": 30,
                    "allowed_models": ["text-embedding-3-*"],
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Make a key. The answer is the only place where it is ever shown."""
        user, wanted = _whose(request, ADD), _new_key(_key_body(request))
        _check_rank(request, user)
        with transaction.atomic():
            key, text = api_keys.create_key(user, wanted)
            record_api(
                caller_of(request), "create", f"API key {key}", after=snapshot(key)
            )
        answer = _shown(NewKeyAnswer, key, key=text)
        return Response(answer, status=201, headers=NOT_KEPT)


class RevokeKey(KeyView):
    """End a key, in all processes within a second."""

    @extend_schema(operation_id="revoke_api_key", responses={200: Key})
    def delete(self, request: Request, key_id: int) -> Response:
        key = _key(request, key_id)
        before = {"status": key.status}
        with transaction.atomic():
            api_keys.revoke_key(key)
            record_api(
                caller_of(request),
                "revoke",
                f"API key {key}",
                before=before,
                after={"status": key.status},
            )
        return Response(_shown(Key, key))


def _whose(request: Request, *permissions: str) -> User:
    """Return the user whose keys are meant; others' take one of `permissions`. Raises PermissionDenied, NotFound."""
    name = request.query_params.get("user")
    if name is None or name == request.user.get_username():
        return cast(User, request.user)
    if not caller_of(request).may(*permissions):
        raise exceptions.PermissionDenied(refusal(permissions[0]))
    user = User.objects.filter(username=name).first() if name.isprintable() else None
    if user is None:
        raise exceptions.NotFound("There is no such user.")
    return user


def _new_key(body: Mapping[str, Any]) -> api_keys.NewKey:
    """Build the request for a key from a checked body."""
    return api_keys.NewKey(
        name=body.get("name", ""),
        expires_at=api_keys.expiry(body.get("expires_in_days")),
        allowed_providers=body.get("allowed_providers", ()),
        allowed_models=body.get("allowed_models", ()),
        read_only_media=body.get("read_only_media", False),
        limits=CallerLimits(**body.get("limits", {})),
    )


def _shown(shape: type[T], key: ApiKey, /, **more: str) -> T:
    limits = filled(CallerLimits, key)
    name = key.user.get_username()
    return filled(shape, key, id=key.pk, user=name, limits=limits, **more)


def _key_body(request: Request) -> dict[str, Any]:
    """Return the checked body. Limits are for admins to set: a user's own key could exceed them otherwise."""
    body = validated(NewKeySerializer, request)
    if body.get("limits") and not caller_of(request).may(ADD):
        raise exceptions.PermissionDenied(f"limits: {refusal(ADD)}")
    return body


def _check_rank(request: Request, user: User) -> None:
    """Raise PermissionDenied for a user who may do more than the caller: its keys are not the caller's to change."""
    if user.pk == caller_of(request).user_id:
        return
    if not Rights.of_caller(caller_of(request)).cover(Rights.of(user)):
        raise exceptions.PermissionDenied(
            f"{user.get_username()} has permissions that you lack; only they, or a superuser, may do this."
        )


def _key(request: Request, key_id: int) -> ApiKey:
    """Return a key that the caller may revoke. Raises NotFound for one that it may not see, else PermissionDenied."""
    caller = caller_of(request)
    keys = ApiKey.objects.select_related("user")
    if not caller.may(VIEW, CHANGE):
        keys = keys.filter(user=cast(User, request.user))
    key = keys.filter(pk=key_id).first()
    if key is None:
        raise exceptions.NotFound("There is no such key.")
    if key.user_id != caller.user_id and not caller.may(CHANGE):
        raise exceptions.PermissionDenied(refusal(CHANGE))
    _check_rank(request, key.user)
    return key
