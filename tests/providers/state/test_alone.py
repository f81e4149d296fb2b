"""Nodes that start at the same moment prepare their database one after the other."""

import threading

import pytest
from django.db import connection

from providers.state import alone as module
from providers.state.alone import alone
from providers.state.postgresql.base import DatabaseWrapper
from tests.waiting import poll


@pytest.fixture
def postgres(postgres_server, monkeypatch):
    """The database of all nodes, seen by one that looks on."""
    settings = {
        **connection.settings_dict,
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": postgres_server.folder,
        "OPTIONS": {},
    }
    own = DatabaseWrapper(settings, "default")
    monkeypatch.setattr(module, "connection", own)
    yield own
    own.close()


def test_second_node_waits_until_the_first_is_done(postgres, django_db_blocker):
    order = []

    def second():
        with alone("prepare"):
            order.append("second")

    def waits():
        with postgres.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
            return cursor.fetchone()

    with django_db_blocker.unblock():
        thread = threading.Thread(target=second)
        with alone("prepare"):
            thread.start()
            poll(waits, what="the second one waits")
            order.append("first")
        thread.join(20)
    assert order == ["first", "second"]


def test_node_that_fails_lets_the_next_one_in(postgres, django_db_blocker):
    with django_db_blocker.unblock():
        with pytest.raises(RuntimeError), alone("prepare"):
            raise RuntimeError
        with alone("prepare"):
            pass


def test_what_differs_does_not_wait(postgres, django_db_blocker):
    with django_db_blocker.unblock(), alone("prepare"), alone("something else"):
        pass
