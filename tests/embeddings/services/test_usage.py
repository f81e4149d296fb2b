"""Usage: counted in memory, added up in the database, never counted twice and never lost on a clean way."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import DatabaseError, connection

from embeddings.models import EndUserDay, UsageHour
from embeddings.services.callers import Caller
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Target
from embeddings.services.usage import counts, upserts
from embeddings.services.usage import ledger as ledger_module
from embeddings.services.usage.counts import Counts
from embeddings.services.usage.ledger import Ledger, usage
from providers.exceptions import ProviderUnavailable
from providers.models import ModelEntry
from providers.operator_settings import reader
from providers.seeding import seed_registry
from tests.fakes import MINILM, FakeOpenAI

REPOSITORY = Path(__file__).parents[3]
HOUR = datetime(2026, 1, 31, 23, tzinfo=UTC)
ANNA = Caller(id="key:7", username="anna", is_admin=False, user_id=3, key_id=7)
OPENAI = FakeOpenAI()
SMALL = FakeOpenAI.specs[0]


@pytest.fixture
def ledger(db, monkeypatch):
    ledger: Any = Ledger(flush_seconds=0)  # `now` is these tests' own
    ledger.now = HOUR.timestamp() + 100
    monkeypatch.setattr(Ledger, "clock", lambda self: self.now)
    return ledger


def result(*, tokens=10, computed=10, hits=0, price=0.02):
    spec = type(SMALL)(
        name="text-embedding-3-small",
        dimensions=16,
        max_tokens=50,
        vector_space="x",
        price_per_million_tokens=price,
    )
    return EmbeddingResult(
        vectors=np.zeros((1, 16), np.float32),
        target=Target(provider=OPENAI, model=spec),
        name=spec.name,
        prompt_tokens=tokens,
        cache_hits=hits,
        computed_tokens=computed,
    )


def asked(caller=ANNA, user=None):
    return EmbeddingRequest(inputs=["a"], caller=caller, user=user)


def figures(row):
    return (row.requests, row.errors, row.tokens, row.cache_hits, row.cost)


def test_counts_add_up_in_one_row_an_hour(ledger):
    for _ in range(3):
        ledger.answered(asked(), result(tokens=10, computed=5, hits=1))
    ledger.failed(ANNA, result().target)
    assert ledger.flush()
    ledger.answered(asked(), result())
    assert ledger.flush()
    row = UsageHour.objects.get(model="text-embedding-3-small")
    assert (row.caller, row.username, row.user_id, row.key_id) == (
        "key:7",
        "anna",
        3,
        7,
    )
    assert row.hour == HOUR
    assert figures(row) == (4, 1, 40, 3, Decimal("0.0000005"))


def test_next_hour_is_a_row_of_its_own(ledger):
    ledger.answered(asked(), result())
    ledger.now += 3600
    ledger.answered(asked(), result())
    ledger.flush()
    assert [row.hour.hour for row in UsageHour.objects.all()] == [0, 23]


def test_model_without_a_price_costs_nothing(ledger):
    ledger.answered(asked(), result(price=None))
    ledger.flush()
    assert UsageHour.objects.get().cost == 0


def test_cost_of_single_tokens_is_never_rounded_away(ledger):
    for _ in range(1000):
        ledger.answered(asked(), result(tokens=1, computed=1, price=0.0001))
    ledger.flush()
    assert UsageHour.objects.get().cost == Decimal("0.0000001")


def test_failed_request_counts_as_an_error_at_a_known_model_only(ledger, fakes):
    ledger.failed(ANNA, Target(provider=fakes["openai"], model=SMALL))
    unlisted = type(SMALL)(
        name="made-up", dimensions=None, max_tokens=None, vector_space="x"
    )
    ledger.failed(ANNA, Target(provider=fakes["openai"], model=unlisted))
    ledger.failed(ANNA)
    ledger.flush()
    places = UsageHour.objects.values_list("provider", "model", "errors")
    assert set(places) == {
        ("openai", "text-embedding-3-small", 1),
        ("openai", "other", 1),
        ("", "", 1),
    }


def test_nothing_counted_writes_nothing(ledger, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert ledger.flush()


def test_counting_writes_nothing(ledger, django_assert_num_queries):
    with django_assert_num_queries(0):
        for _ in range(100):
            ledger.answered(asked(user="bob"), result())


def test_failed_flush_keeps_the_counts_and_stores_them_once(ledger, monkeypatch):
    def away(*args, **kwargs):
        raise DatabaseError("away")

    ledger.answered(asked(user="bob"), result())
    with monkeypatch.context() as broken:
        broken.setattr(ledger_module, "store", away)
        assert not ledger.flush()
    ledger.answered(asked(user="bob"), result())
    assert ledger.flush()
    assert ledger.flush()
    assert UsageHour.objects.get().requests == 2
    assert EndUserDay.objects.get().requests == 2


def test_flush_that_fails_halfway_stores_nothing(ledger, monkeypatch):
    add_up = upserts.add_up

    def until_end_users(model, *args, **kwargs):
        if model is EndUserDay:
            raise DatabaseError("away")
        add_up(model, *args, **kwargs)

    ledger.answered(asked(user="bob"), result())
    with monkeypatch.context() as broken:
        broken.setattr(counts, "add_up", until_end_users)
        assert not ledger.flush()
    assert not UsageHour.objects.exists()
    assert ledger.flush()
    assert UsageHour.objects.get().requests == 1


def test_memory_stays_bounded_and_totals_right_while_the_database_is_away(
    ledger, monkeypatch
):
    monkeypatch.setattr(ledger_module, "MAX_PLACES", 5)
    for number in range(50):
        caller = Caller(id=f"key:{number}", username="x", is_admin=False)
        ledger.answered(asked(caller), result())
    ledger.flush()
    rows = UsageHour.objects.all()
    assert len(rows) == 6
    assert sum(row.requests for row in rows) == 50
    assert rows.get(caller="(overflow)").requests == 45


def test_rows_are_written_in_one_order_whoever_came_first(ledger):
    """Else two processes that store the same callers' counts at once could wait for each other for ever."""

    def written(callers, users):
        for caller in callers:
            for user in users:
                ledger.answered(asked(caller, user), result())
                ledger.failed(caller)
        statements = []

        def note(execute, sql, params, many, context):
            if many:
                statements.append((sql, params))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(note):
            assert ledger.flush()
        return statements

    bob = Caller(id="key:8", username="bob", is_admin=False, user_id=4, key_id=8)
    first = written([ANNA, bob], ["carl", "dora"])
    assert [len(rows) for _, rows in first] == [4, 4]
    for callers in ([bob, ANNA], [ANNA, bob]):
        for users in (["dora", "carl"], ["carl", "dora"]):
            assert written(callers, users) == first


def test_end_users_are_stored_by_day(ledger):
    for user in ("bob", "eve", "bob", None):
        ledger.answered(asked(user=user), result())
    ledger.flush()
    rows = EndUserDay.objects.values_list("day", "end_user", "requests", "tokens")
    assert list(rows) == [
        (date(2026, 1, 31), "bob", 2, 20),
        (date(2026, 1, 31), "eve", 1, 10),
    ]


def test_end_users_of_a_caller_are_bounded(ledger, monkeypatch):
    monkeypatch.setattr(counts, "MAX_END_USERS", 3)
    for number in range(10):
        ledger.answered(asked(user=f"user-{number}"), result())
        if number % 4 == 3:
            ledger.flush()
    ledger.flush()
    rows = dict(EndUserDay.objects.values_list("end_user", "requests"))
    assert rows == {"user-0": 1, "user-1": 1, "user-2": 1, "(others)": 7}


def test_name_beyond_what_a_day_may_hold_joins_the_others(ledger, monkeypatch):
    monkeypatch.setattr(counts, "MAX_END_USERS", 3)
    for names in (["a", "b", "c"], ["d", "a"]):
        for name in names:
            ledger.answered(asked(user=name), result())
        ledger.flush()
    rows = dict(EndUserDay.objects.values_list("end_user", "requests"))
    assert rows == {"a": 2, "b": 1, "c": 1, "(others)": 1}


def test_end_users_are_bounded_in_memory_too(monkeypatch):
    monkeypatch.setattr(counts, "MAX_END_USERS", 3)
    account = counts.Account(caller=ANNA)
    for number in range(10):
        account.add_end_user(
            f"user-{number}", int(HOUR.timestamp()), Counts(requests=1)
        )
    counted = {name: counts.requests for (_, name), counts in account.end_users.items()}
    assert counted == {"user-0": 1, "user-1": 1, "user-2": 1, "(others)": 7}


def test_pending_is_what_the_database_does_not_hold_yet(ledger, monkeypatch):
    ledger.answered(asked(), result())
    assert ledger.pending("key:7", since=HOUR.timestamp()).tokens == 10
    assert ledger.pending("key:7", since=HOUR.timestamp() + 3600).tokens == 0
    seen = []
    store = counts.store

    def watched(*given):
        seen.append(ledger.pending("key:7", since=0).tokens)
        store(*given)

    monkeypatch.setattr(ledger_module, "store", watched)
    ledger.flush()
    assert seen == [10]
    assert ledger.pending("key:7", since=0).tokens == 0


def test_closing_stores_what_is_left(ledger):
    ledger.answered(asked(), result())
    ledger.close()
    assert UsageHour.objects.get().requests == 1


# From the request to the row.


def test_request_is_counted_with_its_tokens_and_its_end_user(post):
    body = {"input": ["one two", "three"], "model": f"onnx:{MINILM}", "user": "bob"}
    tokens = post(body).json()["usage"]["prompt_tokens"]
    post({**body, "input": ["one two", "four five"]})
    usage().flush()
    row = UsageHour.objects.get()
    assert (row.caller, row.provider, row.model) == ("single_user", "onnx", MINILM)
    assert figures(row) == (2, 0, tokens + 4, 1, 0)
    assert EndUserDay.objects.get().requests == 2


def test_cached_texts_cost_nothing(post, fakes):
    fakes["openai"].problem = None
    seed_registry(allowed_providers=[], allowed_models=[])
    ModelEntry.objects.filter(provider="openai").update(price_per_million_tokens="0.5")
    reader.cache_clear()
    body = {"input": ["a b", "c d"], "model": "text-embedding-3-small"}
    post(body)
    post(body)
    post({**body, "input": ["a b", "e f g h"]})
    usage().flush()
    row = UsageHour.objects.get()
    assert (row.tokens, row.cache_hits) == (14, 3)
    # 4 tokens computed, then none, then half of 6
    assert row.cost == Decimal("0.0000035")


def test_fallback_is_counted_where_it_ran(post):
    post({"input": "a", "model": "text-embedding-3-small"})
    usage().flush()
    assert UsageHour.objects.get().provider == "huggingface"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"input": ""}, ("", "")),
        ({"model": "onnx:acme-9"}, ("", "")),
        ({"input": "one two " * 20}, ("onnx", MINILM)),
    ],
)
def test_refused_request_counts_as_an_error(post, body, place):
    response = post({"input": "a", "model": f"onnx:{MINILM}", **body})
    assert response.status_code in (400, 404)
    usage().flush()
    row = UsageHour.objects.get()
    assert (row.provider, row.model) == place
    assert (row.requests, row.errors) == (0, 1)


def test_request_that_no_provider_could_serve_counts_as_an_error(post, fakes):
    for fake in fakes.values():
        fake.fault = ProviderUnavailable("away")
    assert post({"input": "a", "model": f"onnx:{MINILM}"}).status_code == 503
    usage().flush()
    assert figures(UsageHour.objects.get())[:2] == (0, 1)


def test_request_with_a_header_nobody_knows_counts_as_an_error(post):
    body = {"input": "a", "model": f"onnx:{MINILM}"}
    assert post(body, **{"X-Embeddings-Fallback": "never"}).status_code == 400
    usage().flush()
    assert UsageHour.objects.get().errors == 1


def test_stranger_is_not_counted(post, client):
    client.credentials(HTTP_X_API_KEY="wrong")
    assert client.post("/api/v1/embeddings", {}, format="json").status_code == 401
    assert usage().flush()
    assert not UsageHour.objects.exists()


# Several processes, on both databases.

# They begin as copies of one, before it has connected: to start each by itself takes seconds.
COUNT = """
import json, multiprocessing, django
django.setup()
from django.core.management import call_command
from django.db import connections
from embeddings.models import EndUserDay, UsageHour
from embeddings.services.usage.ledger import Ledger
from tests.embeddings.services.test_usage import asked, result

def count():
    ledger = Ledger(flush_seconds=0)
    Ledger.clock = lambda self: 1769900000
    for _ in range(40):
        for _ in range(5):
            ledger.answered(asked(user="bob"), result(tokens=3, computed=3))
        assert ledger.flush()

call_command("migrate", verbosity=0)
connections.close_all()
fork = multiprocessing.get_context("fork")
processes = [fork.Process(target=count) for _ in range(4)]
for process in processes:
    process.start()
for process in processes:
    process.join()
assert [process.exitcode for process in processes] == [0] * 4
row, end_user = UsageHour.objects.get(), EndUserDay.objects.get()
print(json.dumps([row.requests, row.tokens, str(row.cost), end_user.requests]))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_counts_of_several_processes_add_up_exactly(request, tmp_path, database):
    url = f"sqlite:///{tmp_path / 'db.sqlite3'}"
    if database == "postgres":
        server = request.getfixturevalue("postgres_server")
        url = server.create_database("several_processes")
    found = printed_by(COUNT, data_dir=tmp_path, database=url)
    assert found == [800, 2400, "0.0000480000", 800]


COUNT_CUT_OFF = """
import json, sys, django
django.setup()
from django.core.management import call_command
from django.db import connection
from embeddings.models import UsageHour
from embeddings.services.usage.ledger import Ledger
from tests.embeddings.services.test_usage import asked, result
from tests.servers import CutAtCommit, serving

call_command("migrate", verbosity=0)
found = []
with serving(CutAtCommit(connection.settings_dict["OPTIONS"].pop("host"))) as way:
    connection.close()
    connection.settings_dict |= {"HOST": "127.0.0.1", "PORT": way.port}
    for cut in ("after", "before"):
        UsageHour.objects.all().delete()
        ledger = Ledger(flush_seconds=0)
        ledger.answered(asked(), result())
        way.cut = cut
        stored = ledger.flush()
        connection.close()
        pending = ledger.pending("key:7", since=0).tokens
        ledger.answered(asked(), result())
        while not ledger.flush():
            pass
        found.append([stored, pending, UsageHour.objects.get().requests])
    connection.close()
print(json.dumps(found))
"""


@pytest.mark.e2e
def test_flush_whose_commit_is_cut_off_is_counted_once_whether_or_not_it_took_place(
    postgres_server, tmp_path
):
    url = postgres_server.create_database("cut_off")
    found = printed_by(COUNT_CUT_OFF, data_dir=tmp_path, database=url)
    assert found == [[False, 10, 2]] * 2


def printed_by(script, *, data_dir, database):
    """Run a script in a process of its own, and return the JSON that it prints."""
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env={
            "PATH": "/usr/bin:/bin",
            "DATA_DIR": str(data_dir),
            "DATABASE_URL": database,
            "DJANGO_SETTINGS_MODULE": "embeddings_project.settings",
            "PYTHONPATH": str(REPOSITORY),
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)
