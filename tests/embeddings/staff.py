"""Staff of several kinds: a superuser, one with every permission, one who may look, one who makes keys; and a user."""

from django.contrib.auth.models import Group, Permission

WHO = ("boss", "full", "viewer", "keyman", "plain")


class Staff(dict):
    """Users by their names in WHO, each made when it is first asked for. `full` has its permissions from a group."""

    def __init__(self, make_user):
        super().__init__()
        self._make_user = make_user

    def __missing__(self, name):
        user = self._make_user(
            name, is_staff=name != "plain", is_superuser=name == "boss"
        )
        if name == "full":
            everything = Group.objects.create(name="everything")
            everything.permissions.set(Permission.objects.all())
            user.groups.add(everything)
        elif name == "viewer":
            give(user, *view_permissions())
        elif name == "keyman":
            give(user, "add_apikey")
        self[name] = user
        return user


def give(user, *codenames):
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


def view_permissions():
    rows = Permission.objects.filter(codename__startswith="view_")
    return rows.values_list("codename", flat=True)
