"""The console's login form, guarded against guessing."""

from typing import Any

from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm

from embeddings.access.client_address import client_address
from embeddings.access.login_guard import LockedOut, guarded_login
from embeddings.models import AuditEntry


class GuardedLoginForm(AuthenticationForm):  # type: ignore[misc]
    """Refuses to look at the password of a name or address with too many failures."""

    def clean(self) -> dict[str, Any]:
        username = self.cleaned_data.get("username")
        if username is None or not self.cleaned_data.get("password"):
            return dict(super().clean())
        try:
            with guarded_login(
                username=username,
                address=client_address(self.request),
                source=AuditEntry.Source.CONSOLE,
            ):
                return dict(super().clean())
        except LockedOut as locked:
            minutes = -(-locked.retry_after_seconds // 60)
            raise ValidationError(
                f"Too many failed logins. Try again in {minutes} minute{'s' if minutes > 1 else ''}.",
                code="locked_out",
            ) from locked
