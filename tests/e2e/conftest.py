"""Running servers: one for most tests, a second one that differs in what an operator may set."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from django.db import connection, connections

from providers.engine.pins import DEFAULT_MODEL
from providers.engine.vocabulary import prepare_vocabulary
from providers.engine.weights import Weights
from tests import databases
from tests.e2e.browser import (  # noqa: F401  (fixtures)
    browser,
    console,
    expect,
    logins,
    page,
    tabs,
)
from tests.e2e.server import Server, manage
from tests.environment import DATA_DIR


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show with a test that failed what its servers logged of errors: a fault that comes once in fifty runs is not
    made again at will."""
    report = yield
    if report.failed:
        for server in Server.not_ended:
            title = f"errors that {server.folder.name} logged"
            report.sections.append((title, server.errors()))
    return report


@pytest.fixture(scope="session")
def prepared_weights():
    """The default model and OpenAI's vocabulary, fetched once per machine."""
    Weights(DATA_DIR).prepare(DEFAULT_MODEL)
    prepare_vocabulary(DATA_DIR)


@pytest.fixture(scope="session")
def migrated(django_db_setup, django_db_blocker, tmp_path_factory):
    """A database as the migrations leave it: a copy of the one that this process's other tests have in memory.

    With PostgreSQL it is the one there that all are copies of.
    """
    if databases.on_postgres():
        return Path(databases.TEMPLATE)
    path = tmp_path_factory.mktemp("migrated") / "db.sqlite3"
    if not connection.settings_dict["NAME"].startswith("file:memory"):
        # No test of this run uses that one, so it was not made.
        assert manage(path.parent, "migrate", "--verbosity", "0").returncode == 0
        return path
    with django_db_blocker.unblock(), contextlib.closing(sqlite3.connect(path)) as file:
        connection.ensure_connection()
        connection.connection.backup(file)
    path.chmod(0o600)  # as the server makes it
    return path


@pytest.fixture
def installation(migrated, tmp_path, django_db_blocker, settings):
    """Have the default database be a file of this test's own, in a data folder of its own."""
    settings.DATA_DIR = tmp_path
    path = shutil.copy(migrated, tmp_path)
    usual, before = connections["default"], connections.settings["default"]
    connections.settings["default"] = {**before, "NAME": str(path)}
    with django_db_blocker.unblock():
        connections["default"] = connections.create_connection("default")
        yield
        connections["default"].close()
    connections["default"], connections.settings["default"] = usual, before


@pytest.fixture(scope="session")
def server(prepared_weights, tmp_path_factory):
    """A server as it starts for a user who has set nothing. Whatever the tests send, it never answers 500."""
    running = Server(tmp_path_factory.mktemp("server"), MEDIA_WORKERS="1")
    yield running.wait_until_ready()
    running.end()
    failed = [line for line in running.log_lines() if line.get("status") == 500]
    assert not failed, running.output


@pytest.fixture(scope="session")
def open_handed_server(prepared_weights, migrated, tmp_path_factory):
    """A server with two workers that takes the key as a Bearer token, too."""
    running = Server(
        tmp_path_factory.mktemp("open-handed"),
        database=migrated,
        WEB_CONCURRENCY="2",
        SINGLE_USER_ACCEPT_BEARER="true",
    )
    yield running.wait_until_ready()
    running.end()


@pytest.fixture
def launch(prepared_weights, migrated, tmp_path):
    """Return a function that starts a server of this test's own; it may never get ready.

    Its database has been migrated, unless this is to be the `first` start.
    """
    started = []

    def start(*, first=False, **options):
        options.setdefault("database", None if first else migrated)
        server = Server(tmp_path / f"server-{len(started)}", **options)
        started.append(server)
        return server

    yield start
    for server in started:
        server.end()
