"""Who asks: what the services and the limiter need to know of a caller."""

from dataclasses import dataclass, field
from decimal import Decimal

from providers.patterns import allows_model, allows_provider


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerLimits:
    """What one caller may use; None: as the server's settings say, which for tokens and budgets is unlimited."""

    requests_per_minute: int | None = None
    burst: int | None = None
    tokens_per_minute: int | None = None
    monthly_tokens: int | None = None
    monthly_cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One caller, as authentication found it. Empty scopes allow what the server allows.

    `shared_limits` names those of `limits` that were given to the user and not to the key.
    `id` is stable and unique: `single_user`, `user:<pk>`, or `key:<pk>` when an API key was used; `key_prefix` is then
    what everyone may see of the key.
    `is_admin`: Django's `is_staff`, not through a narrowed key. What an admin may do, `permissions` say, by Django's
    names for them (`providers.change_breaker`); nobody else has any.
    """

    id: str
    username: str
    is_admin: bool
    is_superuser: bool = False
    permissions: frozenset[str] = frozenset()
    user_id: int | None = None
    key_id: int | None = None
    key_prefix: str = ""
    allowed_providers: tuple[str, ...] = ()
    allowed_models: tuple[str, ...] = ()
    read_only_media: bool = False
    limits: CallerLimits = field(default_factory=CallerLimits)
    shared_limits: frozenset[str] = frozenset()

    def may(self, *permissions: str) -> bool:
        """Whether the caller has one of these permissions."""
        return self.is_superuser or not self.permissions.isdisjoint(permissions)

    def limits_owner(self, *limits: str) -> str:
        """Return who uses up these limits: all of a user's keys and tokens together where the user was given them."""
        own = [name for name in limits if getattr(self.limits, name) is not None]
        shared = bool(own) and self.shared_limits.issuperset(own)
        return f"user:{self.user_id}" if shared else self.id

    def may_use(self, provider: str, model: str) -> bool:
        """Whether the caller's own scopes let it use this model; they narrow the server's allowlists."""
        return self.may_use_provider(provider) and allows_model(
            self.allowed_models, provider, model
        )

    def may_use_provider(self, provider: str) -> bool:
        """Whether the caller's own scopes let it use this provider."""
        return allows_provider(self.allowed_providers, provider)


# Work of the server itself: commands and probes.
SYSTEM = Caller(id="system", username="system", is_admin=True, is_superuser=True)
SINGLE_USER = Caller(
    id="single_user", username="single_user", is_admin=True, is_superuser=True
)


def refusal(permission: str) -> str:
    """Say what a caller lacks."""
    return f"This is for admins with the permission {permission}."
