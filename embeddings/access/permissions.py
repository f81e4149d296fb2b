"""Who may do what."""

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from embeddings.access.callers import caller_of


class IsAdmin(BasePermission):
    """Admins (Django's `is_staff`, not through a narrowed key) only."""

    message = "This endpoint is for admins."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.auth) and caller_of(request).is_admin


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
