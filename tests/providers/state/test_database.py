"""A process that serves waits for its database a bounded time; while it does not answer, one caller a second asks."""

import contextlib
import socket
import sqlite3
import threading

import pytest
from django.db import OperationalError, connections

from providers.state import database
from providers.state.database import Waits


class Timer:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def waits(timer, monkeypatch):
    """This process's waits, as of one that serves."""
    monkeypatch.setattr(database.waits, "timer", timer)
    database.waits.serve(0.3)
    yield database.waits
    database.waits.serving, database.waits.seconds = False, None
    database.waits.answered()


def test_a_command_waits_as_long_as_it_takes():
    waits = Waits()
    with waits.at_most(3):
        assert waits.patience() is None


def test_a_thread_may_be_less_patient_than_its_process_and_not_more():
    waits = Waits()
    waits.serve(10)
    with waits.at_most(3):
        assert waits.patience() == 3
        seen = []
        thread = threading.Thread(target=lambda: seen.append(waits.patience()))
        thread.start()
        thread.join()
        assert seen == [10]
        with waits.at_most(30):
            assert waits.patience() == 10
        assert waits.patience() == 3
    assert waits.patience() == 10


def test_one_caller_a_second_asks_a_database_that_does_not_answer(timer):
    waits = Waits()
    waits.timer = timer
    assert all(waits.may_ask() for _ in range(3))
    waits.unanswered()
    assert not waits.may_ask()
    timer.now += 1
    assert [waits.may_ask() for _ in range(3)] == [True, False, False]
    timer.now += 1
    assert waits.may_ask()
    waits.answered()
    assert all(waits.may_ask() for _ in range(3))


@pytest.fixture
def add_alias(django_db_blocker):
    """Return a function that adds a connection of these settings."""
    made = []

    def add(alias, **settings):
        own = connections["default"].settings_dict
        connections.settings[alias] = {**own, "OPTIONS": {}, **settings}
        made.append(alias)
        return connections[alias]

    with django_db_blocker.unblock():
        yield add
        for alias in made:
            connections[alias].close()
            del connections[alias], connections.settings[alias]


@pytest.fixture
def postgres(add_alias, postgres_server):
    def connect(**options):
        return add_alias(
            "waits",
            ENGINE="providers.state.postgresql",
            NAME="postgres",
            USER="postgres",
            HOST=postgres_server.folder,
            OPTIONS=options,
        )

    return connect


def ask(connection, sql="SELECT 1"):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()


def test_a_frozen_postgres_costs_one_wait_and_then_none(
    waits, timer, postgres, postgres_server
):
    connection = postgres()
    assert ask(connection) == (1,)
    with postgres_server.frozen():
        with pytest.raises(OperationalError, match="does not answer"):
            ask(connection)
        assert (
            connection.connection.closed
        )  # an answer that came later would be another question's
        connection.close()
        timer.now += 0.5
        with pytest.raises(OperationalError, match="does not answer"):
            ask(connection)  # at once: the clock stands still, and nobody connects
    timer.now += 1
    assert ask(connection) == (1,)
    assert waits.may_ask()


def test_a_server_that_accepts_and_says_nothing_is_given_up(waits, add_alias):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        connection = add_alias(
            "silent",
            ENGINE="providers.state.postgresql",
            NAME="postgres",
            USER="postgres",
            HOST=host,
            PORT=str(port),
            OPTIONS={"connect_timeout": 1},
        )
        with pytest.raises(OperationalError):
            ask(connection)
    assert not waits.may_ask()


def test_postgres_gets_limits_below_our_own(waits, postgres):
    connection = postgres()
    assert ask(connection, "SHOW statement_timeout") == ("270ms",)
    assert ask(connection, "SHOW lock_timeout") == ("135ms",)


def test_a_statement_that_postgres_ends_itself_is_an_answer(waits, postgres):
    waits.serve(20)
    connection = postgres(options="-c statement_timeout=50ms")
    with pytest.raises(OperationalError, match="statement timeout"):
        ask(connection, "SELECT pg_sleep(20)")
    assert waits.may_ask()
    assert waits.may_ask()


def test_options_of_the_address_win(waits, postgres):
    connection = postgres(options="-c statement_timeout=77s")
    assert ask(connection, "SHOW statement_timeout") == ("77s",)


def test_a_command_has_no_limits(postgres):
    connection = postgres()
    assert ask(connection, "SHOW statement_timeout") == ("0",)


@pytest.fixture
def sqlite(add_alias, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "db.sqlite3")) as file:
        file.execute("CREATE TABLE thing (name TEXT)")
        file.commit()
    return add_alias(
        "moved",
        ENGINE="providers.state.sqlite3",
        NAME=str(folder / "db.sqlite3"),
        OPTIONS=connections["default"].settings_dict["OPTIONS"],
        CONN_HEALTH_CHECKS=True,
    )


def add_thing(connection, name):
    connection.close_if_unusable_or_obsolete()  # as at the start of each request
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO thing VALUES (%s)", [name])


def test_a_file_that_was_moved_away_is_an_error_and_is_not_made_again(
    waits, sqlite, tmp_path
):
    add_thing(sqlite, "before")
    (tmp_path / "data").rename(tmp_path / "gone")
    for _ in range(2):
        with pytest.raises(OperationalError):
            add_thing(sqlite, "meanwhile")
    assert not (tmp_path / "data").exists()
    (tmp_path / "gone").rename(tmp_path / "data")
    add_thing(sqlite, "after")
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "db.sqlite3")) as file:
        rows = file.execute("SELECT name FROM thing").fetchall()
    assert rows == [("before",), ("after",)]


def test_a_file_that_was_deleted_is_not_replaced_by_an_empty_one(
    waits, sqlite, tmp_path
):
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    with pytest.raises(OperationalError):
        add_thing(sqlite, "lost")
    assert not list((tmp_path / "data").iterdir())


def test_what_is_written_goes_to_the_file_that_lies_there(waits, sqlite, tmp_path):
    add_thing(sqlite, "to the old one")
    backup = tmp_path / "backup.sqlite3"
    with contextlib.closing(sqlite3.connect(backup)) as file:
        file.execute("CREATE TABLE thing (name TEXT)")
        file.commit()
    backup.replace(tmp_path / "data" / "db.sqlite3")
    for suffix in ("-wal", "-shm"):
        (tmp_path / "data" / f"db.sqlite3{suffix}").unlink(missing_ok=True)
    add_thing(sqlite, "to the new one")
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "db.sqlite3")) as file:
        assert file.execute("SELECT name FROM thing").fetchall() == [
            ("to the new one",)
        ]


def test_a_command_makes_the_file(add_alias, tmp_path):
    connection = add_alias(
        "new", ENGINE="providers.state.sqlite3", NAME=str(tmp_path / "new.sqlite3")
    )
    assert ask(connection) == (1,)
    assert (tmp_path / "new.sqlite3").exists()
