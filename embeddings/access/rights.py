"""Django's permissions: what a user holds, read along with its row, and whose rights go further than another's."""

from dataclasses import dataclass
from typing import Any, Self

from django.contrib.auth.models import Group, Permission, User
from django.db.models import (
    Case,
    F,
    Func,
    OuterRef,
    Q,
    Subquery,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Concat

from embeddings.services.callers import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What somebody may do, or could once switched active and staff."""

    is_superuser: bool
    permissions: frozenset[str]

    @classmethod
    def of(cls, user: User) -> Self:
        """Read the rights of `user`, its groups' included."""
        found = User.objects.filter(pk=user.pk)
        row = found.values_list("is_superuser", _names_of("pk")).first()
        is_superuser, names = row or (False, "")
        return cls(is_superuser=is_superuser, permissions=parsed(names))

    @classmethod
    def of_caller(cls, caller: Caller) -> Self:
        return cls(is_superuser=caller.is_superuser, permissions=caller.permissions)

    def cover(self, other: "Rights") -> bool:
        """Whether who has these may act on, or for, who has `other`."""
        if self.is_superuser:
            return True
        return not other.is_superuser and other.permissions <= self.permissions


def admin_permissions(user: str, *, owner: str = "") -> Case:
    """Return an annotation: the permissions of the user whose id is at `user`, for `parsed`. Empty for who is no admin,
    and for superusers, who need none. `owner` is the path to the user's own columns.
    """
    is_staff, is_superuser = Q(**{f"{owner}is_staff": True}), f"{owner}is_superuser"
    named = When(is_staff & Q(**{is_superuser: False}), then=_names_of(user))
    return Case(named, default=Value(""), output_field=TextField())


def parsed(names: str | None) -> frozenset[str]:
    """Return the permissions that an annotation lists."""
    return frozenset(names.split(",")) if names else frozenset()


class _Joined(Func):
    """Distinct texts as one, with commas between. Not an Aggregate, which would group a subquery by its filters."""

    function = "STRING_AGG"
    template = "%(function)s(DISTINCT %(expressions)s, ',')"
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "GROUP_CONCAT(DISTINCT %(expressions)s)"
        return self.as_sql(compiler, connection, template=template, **extra)


def _names_of(user: str) -> Subquery:
    who = OuterRef(OuterRef(user))
    own = User.user_permissions.through.objects.filter(user_id=who)
    of_groups = Group.permissions.through.objects.filter(group__user=who)
    held = Q(pk__in=own.values("permission_id")) | Q(
        pk__in=of_groups.values("permission_id")
    )
    name = Concat(F("content_type__app_label"), Value("."), F("codename"))
    joined = Permission.objects.filter(held).order_by().annotate(names=_Joined(name))
    return Subquery(joined.values("names"), output_field=TextField())
