"""Who may do what."""

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from embeddings.access.authentication import caller_of
from embeddings.services.callers import refusal


class HasPermission(BasePermission):
    """The caller has the permission of Django's that the view `needs`: the one that the console asks for the same."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        needed: str = view.needs  # type: ignore[attr-defined]
        self.message = refusal(needed)
        return bool(request.auth) and caller_of(request).may(needed)


class MayChangeMedia(BasePermission):
    """Refuse a read-only key everything but reading."""

    message = "This API key may read media, not change them."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method in SAFE_METHODS or not caller_of(request).read_only_media


class MayManageKeys(BasePermission):
    """Refuse keys: one that leaked, or is narrow, must not make others that outlive or exceed it."""

    message = "API keys cannot manage API keys; use a token, or the console."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return caller_of(request).key_id is None
