"""Authentication is quick because nothing is built twice, and true because the database is asked every second."""

import contextlib

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, ProgrammingError, connection

from embeddings.access import row_memory
from embeddings.access.caller_lookup import known_users, shared_caller
from embeddings.access.row_memory import RowMemory
from embeddings.models import UserLimits


@pytest.fixture
def memory(ada):
    return RowMemory(User.objects.select_related("limits"), "username")


def test_unchanged_row_is_built_once(memory, django_assert_num_queries):
    first = memory.find("ada")
    with django_assert_num_queries(1):
        assert memory.find("ada") is first
        first.get_username()


@pytest.mark.parametrize(
    "change", [{"is_active": False}, {"is_staff": True}, {"password": "x"}]
)
def test_any_change_counts_at_once_however_it_is_made(memory, change):
    memory.find("ada")
    User.objects.filter(username="ada").update(**change)
    [(name, value)] = change.items()
    assert getattr(memory.find("ada"), name) == value


def test_database_is_asked_once_a_second(
    memory, monkeypatch, django_assert_num_queries
):
    now = [100.0]
    memory.timer = lambda: now[0]
    monkeypatch.setattr(row_memory, "FRESH_SECONDS", 1.0)
    memory.find("ada")
    User.objects.filter(username="ada").update(is_active=False)
    now[0] = 100.9
    with django_assert_num_queries(0):
        assert memory.find("ada").is_active
    now[0] = 101.0
    assert not memory.find("ada").is_active


def test_change_of_a_joined_row_counts_at_once(memory, ada):
    assert not hasattr(memory.find("ada"), "limits")
    limits = UserLimits.objects.create(user=ada, burst=3)
    assert memory.find("ada").limits.burst == 3
    limits.delete()
    assert not hasattr(memory.find("ada"), "limits")


def test_deleted_and_unknown_rows_are_none(memory, ada):
    memory.find("ada")
    ada.delete()
    assert memory.find("ada") is None
    assert memory.find("nobody") is None


def test_row_that_was_read_during_a_change_is_not_kept_once_that_is_undone(memory, ada):
    """Its columns are then those that were seen before the change, so that nothing else would tell."""

    def active(value):
        User.objects.filter(pk=ada.pk).update(is_active=value)

    def change_after_the_first_look(execute, sql, params, many, context):
        if sql.startswith("SELECT"):
            seen.append(sql)
            if len(seen) == 2:
                active(False)
        return execute(sql, params, many, context)

    seen = []
    with connection.execute_wrapper(change_after_the_first_look):
        assert memory.find("ada").is_active is False
    active(True)
    assert memory.find("ada").is_active is True


@contextlib.contextmanager
def database_away(error):
    def fail(*_):
        raise error

    with connection.execute_wrapper(fail):
        yield


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_row_of_the_last_minute_holds_while_the_database_is_away(memory, error):
    now = [100.0]
    memory.timer = lambda: now[0]
    known = memory.find("ada")
    with database_away(error):
        now[0] = 160.0
        assert memory.find("ada") is known
        with pytest.raises(type(error)):
            memory.find("eve")
        now[0] = 160.1
        with pytest.raises(type(error)):
            memory.find("ada")
    assert memory.find("ada") is known


@pytest.fixture
def process(ada, tmp_path, monkeypatch):
    """Return a function that makes the memory of one process of a server."""
    monkeypatch.setattr(row_memory, "server_folder", lambda: tmp_path)
    return lambda: RowMemory(known_users(), "username")


def test_row_that_another_process_found_holds_while_the_database_is_away(process):
    asked, never_asked = process(), process()
    known = asked.find("ada")
    with database_away(OperationalError("gone")):
        row = never_asked.find("ada")
        assert row == known
        assert shared_caller(row) == shared_caller(known)
        with pytest.raises(OperationalError):
            never_asked.find("eve")


def test_row_that_is_gone_holds_in_no_process(process):
    first, second = process(), process()
    first.find("ada")
    User.objects.filter(username="ada").delete()
    assert first.find("ada") is None
    with database_away(OperationalError("gone")), pytest.raises(OperationalError):
        second.find("ada")


def test_row_that_another_process_found_holds_for_a_minute(process, monkeypatch):
    monkeypatch.setattr(row_memory, "KEPT_SECONDS", 0.0)
    process().find("ada")
    with database_away(OperationalError("gone")), pytest.raises(OperationalError):
        process().find("ada")


def test_row_is_found_where_nothing_can_be_shared(process, tmp_path):
    (tmp_path / "rows").write_text("a file where a folder should be")
    assert process().find("ada").get_username() == "ada"


def test_an_error_of_our_own_is_not_taken_for_an_absent_database(memory):
    memory.find("ada")
    with (
        database_away(ProgrammingError("no such table")),
        pytest.raises(ProgrammingError),
    ):
        memory.find("ada")


def test_memory_is_bounded(memory, make_user, monkeypatch):
    monkeypatch.setattr(row_memory, "MAX_ROWS", 2)
    for name in ("eve", "mallory", "trent"):
        make_user(name)
        assert memory.find(name).username == name
    assert len(memory._known) <= 2
