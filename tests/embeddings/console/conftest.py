"""Operators in the console: one who may do all, one who may only look."""

import pytest
from django.test import Client

from providers.operator_settings import reader
from providers.seeding import seed_registry
from tests.embeddings.staff import give, view_permissions


@pytest.fixture
def seeded(fakes):
    """The rows as after a first start, with fake providers."""
    seed_registry(allowed_providers=[], allowed_models=[])
    reader.cache_clear()


@pytest.fixture
def console(make_user, seeded):
    """A client of a superuser."""
    client = Client()
    client.force_login(make_user("boss", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def viewer(make_user, seeded):
    """A client of somebody who may look at everything and change nothing."""
    user = make_user("viewer", is_staff=True)
    give(user, *view_permissions())
    client = Client()
    client.force_login(user)
    return client
