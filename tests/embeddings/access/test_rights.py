"""Django's permissions as callers carry them, on either database."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connections

from embeddings.access.caller_lookup import caller_of_user, known_users
from embeddings.access.rights import Rights

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def postgres(postgres_server, django_db_blocker):
    """A PostgreSQL database beside the tests' own."""
    alias, own = "rights_postgres", connections["default"].settings_dict
    postgres_server.create_database("rights")
    connections.settings[alias] = {
        **own,
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "rights",
        "USER": "postgres",
        "HOST": postgres_server.folder,
        "OPTIONS": {},
    }
    with django_db_blocker.unblock():
        for app in ("embeddings", "auth"):
            call_command("migrate", app, database=alias, verbosity=0)
        yield alias
        connections[alias].close()
    del connections[alias], connections.settings[alias]


def people(using):
    """Make one user of each kind; permissions come from the user, from a group, and twice."""
    made = {
        name: User.objects.db_manager(using).create(username=name, is_staff=True)
        for name in ("both", "none", "boss", "plain")
    }
    User.objects.using(using).filter(username="boss").update(is_superuser=True)
    User.objects.using(using).filter(username="plain").update(is_staff=False)
    rows = Permission.objects.using(using)
    group = Group.objects.using(using).create(name="g")
    group.permissions.set(rows.filter(codename__in=["view_user", "add_user"]))
    for name in ("both", "boss", "plain"):
        made[name].groups.set([group])
        made[name].user_permissions.set(
            rows.filter(codename__in=["view_user", "change_apikey"])
        )
    Group.objects.using(using).create(name="other").permissions.set(rows.all())
    return made


EXPECTED = {
    "both": {"auth.view_user", "auth.add_user", "embeddings.change_apikey"},
    "none": set(),
    "boss": set(),  # needs none
    "plain": set(),  # no staff
}


@pytest.mark.django_db
def test_permissions_of_user_and_groups_come_with_the_row(django_assert_num_queries):
    people("default")
    with django_assert_num_queries(1):
        callers = [caller_of_user(user) for user in known_users()]
    found = {caller.username: set(caller.permissions) for caller in callers}
    assert found == EXPECTED
    assert [c.username for c in callers if c.is_superuser] == ["boss"]


def test_permissions_come_with_the_row_in_postgresql_too(postgres):
    people(postgres)
    callers = [caller_of_user(user) for user in known_users().using(postgres)]
    found = {caller.username: set(caller.permissions) for caller in callers}
    assert found == EXPECTED


@pytest.mark.django_db
def test_rights_are_those_of_django_whoever_is_off():
    made = people("default")
    for name in ("both", "none"):
        rights = Rights.of(made[name])
        assert rights.permissions == made[name].get_all_permissions()
    assert Rights.of(made["plain"]).permissions == EXPECTED["both"]
    User.objects.update(is_active=False)
    assert Rights.of(made["both"]).permissions == EXPECTED["both"]
    assert Rights.of(made["boss"]).is_superuser


def rights(*names, is_superuser=False):
    return Rights(is_superuser=is_superuser, permissions=frozenset(names))


def test_rights_cover_what_goes_no_further():
    assert rights("a", "b").cover(rights("a"))
    assert rights("a").cover(rights("a"))
    assert not rights("a").cover(rights("b"))
    assert not rights("a").cover(rights(is_superuser=True))
    assert rights(is_superuser=True).cover(rights("a", is_superuser=True))


@pytest.mark.django_db
def test_documented_permissions_exist():
    named = re.findall(
        r"\| `(\w+\.(?:view|add|change|delete)_\w+)` \|",
        (DOCS / "access.md").read_text(),
    )
    assert len(named) > 10
    rows = Permission.objects.values_list("content_type__app_label", "codename")
    assert set(named) <= {f"{app}.{codename}" for app, codename in rows}
