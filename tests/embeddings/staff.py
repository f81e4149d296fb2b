"""Staff of several kinds: a superuser, one with every permission, one who may look, one who makes keys; and a user."""

from django.contrib.auth.models import Group, Permission

WHO = ("boss", "full", "viewer", "keyman", "plain")


def make_staff(make_user):
    """Return users by their names in WHO. `full` has its permissions from a group."""
    people = {
        "boss": make_user("boss", is_staff=True, is_superuser=True),
        **{name: make_user(name, is_staff=True) for name in WHO[1:4]},
        "plain": make_user("plain"),
    }
    everything = Group.objects.create(name="everything")
    everything.permissions.set(Permission.objects.all())
    people["full"].groups.add(everything)
    give(people["viewer"], *view_permissions())
    give(people["keyman"], "add_apikey")
    return people


def give(user, *codenames):
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


def view_permissions():
    rows = Permission.objects.filter(codename__startswith="view_")
    return rows.values_list("codename", flat=True)
