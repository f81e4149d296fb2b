"""Console pages about people: nobody changes, or acts as, somebody with more rights, and nobody gives what he lacks."""

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import F, Model, QuerySet, Value
from django.db.models.functions import Concat
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from embeddings.access.rights import Rights


def rights_of_operator(request: HttpRequest) -> Rights:
    """Return what the user of this request may do."""
    user = request.user
    permissions = frozenset(user.get_all_permissions())
    return Rights(is_superuser=user.is_superuser, permissions=permissions)


class RankedPage(ModelAdmin):  # type: ignore[misc]
    """Put before a page's class: a row that gives more rights than the operator has can be looked at only."""

    def rights_given(self, row: Any) -> Rights:
        """Return the rights of who holds the row."""
        raise NotImplementedError

    def is_beyond(self, request: HttpRequest, row: Model | None) -> bool:
        """Whether the row is not the operator's to change."""
        if row is None or request.user.is_superuser:
            return False
        return not rights_of_operator(request).cover(self.rights_given(row))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may: bool = super().has_change_permission(request, obj)
        return may and not self.is_beyond(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may: bool = super().has_delete_permission(request, obj)
        return may and not self.is_beyond(request, obj)

    def formfield_for_manytomany(
        self, db_field: Any, request: HttpRequest, **options: Any
    ) -> Any:
        """Offer only groups and permissions that give nothing but what the operator has."""
        if db_field.related_model in (Group, Permission):
            rows = givable(db_field.related_model, rights_of_operator(request))
            options["queryset"] = rows
        return super().formfield_for_manytomany(db_field, request, **options)


def givable(model: type[Group | Permission], rights: Rights) -> QuerySet[Any]:
    """Return the groups, or the permissions, that somebody with these rights may give to others."""
    permissions = Permission.objects.select_related("content_type")
    if rights.is_superuser:
        return permissions if model is Permission else Group.objects.all()
    name = Concat(F("content_type__app_label"), Value("."), F("codename"))
    held = permissions.annotate(full_name=name).filter(full_name__in=rights.permissions)
    if model is Permission:
        return permissions.filter(pk__in=held.values("pk"))
    others = Permission.objects.exclude(pk__in=held.values("pk"))
    beyond = Group.permissions.through.objects.filter(permission__in=others)
    return Group.objects.exclude(pk__in=beyond.values("group_id"))


def rights_of_group(group: Group) -> Rights:
    """Return what a group gives to its members."""
    rows = group.permissions.values_list("content_type__app_label", "codename")
    names = frozenset(f"{app}.{codename}" for app, codename in rows)
    return Rights(is_superuser=False, permissions=names)


def problem_of_owner(request: HttpRequest, owner: User) -> str | None:
    """Say why the operator may not make a key for `owner`, or None."""
    if rights_of_operator(request).cover(Rights.of(owner)):
        return None
    return f"{owner.get_username()} has permissions that you lack; only they, or a superuser, may make keys for them."
