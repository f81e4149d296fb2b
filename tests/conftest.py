"""Fixtures for all tests."""

import collections
import functools
import gc
from dataclasses import replace
from importlib.metadata import entry_points

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connection
from rest_framework.test import APIClient
from whitenoise.middleware import WhiteNoiseMiddleware

from embeddings.access import row_memory
from providers import registry as registry_module
from providers.engine.vocabulary import prepare_vocabulary
from providers.state import process
from tests import databases
from tests.environment import DATA_DIR
from tests.servers import PostgresServer, RedisServer

KEY = "test-key-0123456789abcdef"
LEFT_OUT = pytest.StashKey[dict[str, int]]()
REAL_SERVERS = {"redis_server", "postgres_server"}
DATABASE = {"db", "transactional_db", "migrated"}


def pytest_itemcollected(item):
    """Mark what needs more than `make dev` installs."""
    servers = not REAL_SERVERS.isdisjoint(item.fixturenames)
    if servers:
        item.add_marker("servers")
    if servers or "e2e" in item.path.parts:
        item.add_marker("e2e")
    if "torch_reference" in item.fixturenames:
        item.add_marker("torch")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Begin with what takes longest, so that no worker is left with it.

    That is real servers, then models, of which few tests can take half a minute, then files of many tests.
    """
    if databases.on_postgres():
        _leave_out(config, items)
    tests = collections.Counter(item.path for item in items)

    def rank(item):
        folders = item.path.parts
        return ("e2e" not in folders, "engine" not in folders, -tests[item.path])

    items.sort(key=rank)


def _leave_out(config, items):
    """Keep what PostgreSQL and Redis can make a difference to, and count the rest by the reason."""
    reasons = {item: _only_on_sqlite(item) for item in items}
    left_out = [item for item in items if reasons[item]]
    items[:] = [item for item in items if not reasons[item]]
    config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = dict(collections.Counter(reasons[i] for i in left_out))


def _only_on_sqlite(item):
    """Say why a test runs on SQLite alone; None if it runs on PostgreSQL and Redis, too."""
    fixtures = {*item.fixturenames}
    if item.get_closest_marker("sqlite_only"):
        return "marked sqlite_only"
    if fixtures & REAL_SERVERS:
        return "bring servers of their own"
    if item.get_closest_marker("django_db") or fixtures & DATABASE:
        ways = getattr(item, "callspec", None)
        plain = ways is not None and ways.params.get("fast_path") is False
        return "are run on the fast path" if plain else None
    return None if "e2e" in item.path.parts else "use no database"


def pytest_sessionfinish(session):
    """Let the process that sums up know what this one left out."""
    if (left_out := session.config.stash.get(LEFT_OUT, None)) is not None:
        getattr(session.config, "workeroutput", {})["left_out"] = left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    if left_out := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[LEFT_OUT] = left_out  # all have collected the same


def pytest_terminal_summary(terminalreporter, config):
    if left_out := config.stash.get(LEFT_OUT, None):
        terminalreporter.section("on PostgreSQL and Redis; left to the run on SQLite")
        for reason, number in sorted(left_out.items()):
            terminalreporter.line(f"{number:>6} tests that {reason}")


def pytest_collection_finish():
    """Have the collector pass over what is there before the first test: some million objects, looked at each time."""
    gc.freeze()


def pytest_generate_tests(metafunc):
    """Have what the API answers the same with its fast path and without."""
    folder = metafunc.definition.path.parent.name
    asks = {"client", "client_of", "post", "handler", "browser"} & {
        *metafunc.fixturenames
    }
    if folder in ("api", "fast_path", "embeddings_project") and asks:
        ways = {"indirect": True, "ids": ["fast", "plain"]}
        metafunc.parametrize("fast_path", [True, False], **ways)


@pytest.fixture(autouse=True)
def fast_path(request, settings):
    settings.EMBEDDINGS_FAST_PATH = getattr(request, "param", True)


@pytest.fixture(autouse=True)
def fresh_process(settings, monkeypatch):
    """Start each test like a new process: a known key, an empty cache of its own, newly built providers, no thread."""
    settings.EMBEDDINGS = replace_conf(
        settings,
        single_user_api_key=KEY,
        usage_flush_seconds=0,
        cache=replace(settings.EMBEDDINGS.cache, path=None),
        # The limiter's file outlives a test, and all come from one address.
        access=replace(settings.EMBEDDINGS.access, guesses_per_minute=0),
    )
    settings.EMBEDDINGS_CANARY = False  # its thread would call the providers, too
    # Changes of users and keys count at once, rather than within a second; one test has its own clock for that.
    monkeypatch.setattr(row_memory, "FRESH_SECONDS", 0.0)
    if databases.on_postgres():
        databases.empty_cache()
    process.renew()
    yield
    process.renew()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_blocker):
    """Keep each process's test database in memory; pytest-django knows only Django's own engine to do so."""
    test = django_settings.DATABASES["default"]["TEST"]
    if databases.on_postgres():
        with django_db_blocker.unblock():
            test["TEMPLATE"] = databases.make_template(_migrate)
        test["NAME"] = f"test_{databases.WORKER}"
    else:
        test["NAME"] = ":memory:"


@pytest.fixture(autouse=True, scope="session")
def tables_of_no_model():
    """Empty these, too, after tests that commit: pgvector's table refers to one that Django empties."""
    if not databases.on_postgres():
        yield
        return
    from django.db.backends.postgresql.operations import DatabaseOperations

    flush = DatabaseOperations.sql_flush

    def with_others(operations, style, tables, *, reset_sequences, allow_cascade):
        options = {"reset_sequences": reset_sequences, "allow_cascade": True}
        return flush(operations, style, tables, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "sql_flush", with_others)
        yield


def _migrate(name):
    before = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = name
    call_command("migrate", verbosity=0)
    connection.close()
    connection.settings_dict["NAME"] = before


@pytest.fixture(autouse=True, scope="session")
def no_reference():
    """Prepare local models as where sentence-transformers is absent: to start it takes seconds each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("providers.engine.options.sentence_transformers", None)
        yield


@pytest.fixture(autouse=True, scope="session")
def found_once():
    """Look for static files and installed plug-ins once, not for each test's client and registry: neither changes."""
    look = WhiteNoiseMiddleware.add_files_from_finders
    files = {}

    def add_files(middleware):
        if not files:
            look(middleware)
            files.update(middleware.files)
        middleware.files.update(files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add_files)
        patch.setattr(registry_module, "entry_points", functools.cache(entry_points))
        yield


def replace_conf(settings, **changes):
    return replace(settings.EMBEDDINGS, **changes)


@pytest.fixture(scope="session")
def vocabulary():
    """OpenAI's vocabulary, fetched once per machine."""
    return prepare_vocabulary(DATA_DIR)


@pytest.fixture
def configure(settings):
    """Return a function that changes fields of the app's settings for this test."""

    def change(**changes):
        settings.EMBEDDINGS = replace_conf(settings, **changes)

    return change


@pytest.fixture
def fakes(monkeypatch, db, vocabulary):
    """Put fake providers in place of the built-in ones and return them by name."""
    for name, fake in (
        ("openai", "FakeOpenAI"),
        ("huggingface", "FakeHuggingFace"),
        ("onnx", "FakeOnnx"),
    ):
        monkeypatch.setitem(registry_module.BUILT_IN, name, f"tests.fakes:{fake}")
    registry = registry_module.registry()
    return {name: registry.get(name) for name in ("openai", "huggingface", "onnx")}


@pytest.fixture
def client():
    """A client that sends the right key."""
    return APIClient(headers={"X-API-KEY": KEY})


@pytest.fixture
def post(client, fakes):
    """Return a function that posts a JSON body to the embeddings endpoint."""

    def send(body, path="/api/v1/embeddings", **headers):
        return client.post(path, body, format="json", headers=headers)

    return send


@pytest.fixture(scope="session")
def redis_server():
    """A real Redis."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server():
    """A real PostgreSQL."""
    server = PostgresServer()
    yield server
    server.stop()
