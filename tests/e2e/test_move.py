"""An embedded installation carried over to a real PostgreSQL, and what is refused."""

import shutil
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connections

from embeddings.models import ApiKey, AuditEntry, ProcessBeat, UsageHour
from embeddings_project.move.moving import move_to
from embeddings_project.move.tables import MoveProblem, carried, name_of
from media_jobs.models import Job, MediaItem
from media_jobs.vector_store.base import Chunk, Space
from media_jobs.vector_store.store import choose
from providers.models import RemoteSpace
from tests.e2e.server import manage

WIDTH = 8
DRIFT = "UPDATE media_jobs_chunkvector SET embedding = '[1,0,0,0,0,0,0,0]' WHERE chunk_id = 40"


@pytest.fixture(scope="module")
def template(postgres_server, tmp_path_factory):
    """A database whose tables are made, which takes a second, and that holds nothing."""
    url = postgres_server.create_database("move_template")
    data = tmp_path_factory.mktemp("template")
    made = manage(data, "migrate", "--verbosity", "0", DATABASE_URL=url)
    assert made.returncode == 0, made.stderr
    return "move_template"


@pytest.fixture
def target(postgres_server, template, request):
    made = Target(postgres_server, f"move_{uuid4().hex}", template)
    yield made
    made.connection.close()


@pytest.fixture(autouse=True)
def installation(migrated, tmp_path, django_db_blocker):
    """Have the default database be a file of this test's own."""
    path = shutil.copy(migrated, tmp_path)
    usual, settings = connections["default"], connections.settings["default"]
    connections.settings["default"] = {**settings, "NAME": str(path)}
    with django_db_blocker.unblock():
        connections["default"] = connections.create_connection("default")
        yield
        connections["default"].close()
    connections["default"], connections.settings["default"] = usual, settings


class Target:
    """A database, and its superuser's connection to it."""

    def __init__(self, server, name, template):
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        self.url = server.url.replace("/postgres?", f"/{name}?")
        self.connection = psycopg.connect(self.url, autocommit=True)

    def sql(self, statement):
        cursor = self.connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def run(target, *, again=False):
    """Move, and return what the command says, and what it was doing meanwhile."""
    steps = []

    def begin(what, rows):
        steps.append(what)
        return lambda done: None

    return move_to(getattr(target, "url", target), again=again, begin=begin), steps


@pytest.fixture
def filled():
    """Store something in every kind of column, and return the vectors."""
    user = User.objects.create_user("ann", password="a-password-of-ann")
    group = Group.objects.create(name="editors")
    group.permissions.add(*Permission.objects.order_by("-pk")[:3])
    user.groups.add(group)
    ApiKey.objects.create(
        user=user, prefix="sk-0", digest="0", monthly_cost_usd=Decimal("12.5")
    )
    AuditEntry.objects.create(
        source="api",
        actor="ann",
        action="create",
        target="it",
        after={"b": [1.5, None]},
    )
    UsageHour.objects.create(
        caller="key:1",
        hour=datetime(2026, 1, 2, 3, tzinfo=UTC),
        username="ann",
        cost=Decimal("0.0000012345"),
    )
    RemoteSpace.objects.create(
        provider="a", model="b", address="c", reference=b"\x00\x01\xff"
    )
    ProcessBeat.objects.create(
        host="gone",
        pid=1,
        role="web",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        beat_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    item = MediaItem.objects.create(
        title="A\ttitle\\N",
        owner=user,
        metadata={"large": 1e17, "deep": {"ä": [True, -0.5]}},
        content="Tabs\tand\nlines \\. and\r\nquotes \"'",
    )
    Job.objects.create(
        public_id="mej_1",
        media=item,
        owner=user,
        caller="key:1",
        embedding_provider="a",
        embedding_model="b",
        chunk_size=1,
        chunk_overlap=0,
        fingerprint="f",
    )
    vectors = np.random.default_rng(7).standard_normal((40, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    space = Space(provider="a", model="b", vector_space="s", dimensions=WIDTH)
    chunks = [
        Chunk(index=n, text=f"text {n}", start=n, end=n + 1, vector=vector)
        for n, vector in enumerate(vectors)
    ]
    choose().replace(item.pk, space, chunks)
    return item


def test_all_rows_and_vectors_arrive_and_a_second_run_changes_nothing(filled, target):
    before = MediaItem.objects.get().updated_at
    moved, _ = run(target)
    assert (moved.vectors.count, moved.searches, moved.at) == (40, 5, None)
    assert moved.tables == len(carried())
    assert target.sql("SELECT updated_at FROM media_jobs_mediaitem") == [(before,)]
    assert target.sql("SELECT content, title FROM media_jobs_mediaitem") == [
        (filled.content, filled.title)
    ]
    assert target.sql("SELECT metadata->'large' FROM media_jobs_mediaitem") == [
        (10**17,)
    ]
    assert target.sql("SELECT cost FROM embeddings_usagehour") == [
        (Decimal("0.0000012345"),)
    ]
    # What runs is not carried over, and new rows come behind the copied ones.
    assert target.sql("SELECT count(*) FROM embeddings_processbeat") == [(0,)]
    assert target.sql("SELECT nextval('auth_user_id_seq')") == [(2,)]
    again, steps = run(target)
    assert again.at
    assert steps == []
    assert (again.rows, again.vectors) == (moved.rows, moved.vectors)


@pytest.fixture
def broken_off(filled, target):
    """A move that had copied all, and was killed before it compared."""
    run(target)
    target.sql("DELETE FROM embeddings_move WHERE name = 'finished'")
    return target


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE auth_user SET first_name = 'Eve'", "auth_user is another one"),
        (
            "DELETE FROM embeddings_auditentry",
            "embeddings_auditentry has 1 rows, and 0",
        ),
        (
            "UPDATE media_jobs_storedchunk SET text = 'x' WHERE index = 7",
            "media_jobs_storedchunk is another one",
        ),
        (DRIFT, "The vector of chunk 40"),
    ],
)
def test_difference_is_found_and_begun_from_the_first_row_on_demand(
    broken_off, change, what
):
    broken_off.sql(change)
    with pytest.raises(MoveProblem, match=f"{what}.*--again"):
        run(broken_off)
    moved, _ = run(broken_off, again=True)
    assert moved.vectors.count == 40


def test_finished_move_is_not_emptied(filled, target):
    run(target)
    with pytest.raises(MoveProblem, match=r"is finished.*not emptied"):
        run(target, again=True)
    assert target.sql("SELECT count(*) FROM auth_user") == [(1,)]


def test_row_that_postgresql_cannot_hold_is_named_and_not_shown(target):
    MediaItem.objects.create(title="first", content="text")
    row = MediaItem.objects.create(
        title="second", content="text", metadata={"a": "a\0secret"}
    )
    place = f"media_jobs_mediaitem, row {row.pk} of metadata"
    with pytest.raises(MoveProblem, match=place) as problem:
        run(target)
    assert "secret" not in str(problem.value)
    row.delete()
    assert run(target)[0].rows


def test_target_with_rows_or_with_tables_of_something_else_is_refused(target):
    target.sql("CREATE TABLE shop_order (id int)")
    with pytest.raises(MoveProblem, match=r"something else \(shop_order"):
        run(target)
    target.sql("DROP TABLE shop_order")
    run(target)
    target.sql("DROP TABLE embeddings_move")
    User.objects.create_user("bob")
    target.sql("INSERT INTO auth_group (name) VALUES ('theirs')")
    with pytest.raises(MoveProblem, match="not empty: auth_group holds rows"):
        run(target)
    assert target.sql("SELECT count(*) FROM auth_user") == [(0,)]


def test_move_of_another_installation_is_not_gone_on_with(broken_off):
    broken_off.sql("UPDATE embeddings_move SET value = '\"x\"' WHERE name = 'source'")
    with pytest.raises(MoveProblem, match="another installation"):
        run(broken_off)


def test_role_that_may_make_no_tables_is_told_the_remedy(target):
    target.sql("DROP ROLE IF EXISTS reader")
    target.sql("CREATE ROLE reader LOGIN")
    with pytest.raises(
        MoveProblem, match=r"reader may make no tables.*OWNER TO reader"
    ):
        run(target.url.replace("postgres@", "reader@"))


def test_second_move_at_the_same_time_is_refused(target):
    target.sql("SELECT pg_advisory_lock(hashtext('embeddings_move'))")
    with pytest.raises(MoveProblem, match="Another move_to is at work"):
        run(target)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nonsense", "must look like postgres://"),
        ("sqlite:////tmp/other.sqlite3", "must be PostgreSQL"),
        ("mysql://host/name", "must be PostgreSQL"),
        ("postgres://u:a-password@127.0.0.1:9/name", "cannot be reached"),
    ],
)
def test_wrong_address_is_refused_without_the_password(url, what):
    with pytest.raises(MoveProblem, match=what) as problem:
        run(url)
    assert "a-password" not in str(problem.value)


def test_process_that_runs_is_named(target):
    ProcessBeat.objects.create(
        host="node-1",
        pid=42,
        role="worker",
        started_at=datetime.now(UTC),
        beat_at=datetime.now(UTC),
    )
    with pytest.raises(MoveProblem, match=r"process 42 \(worker\) on node-1"):
        run(target)


def test_rows_come_behind_those_that_they_refer_to():
    places = {name_of(model): place for place, model in enumerate(carried())}
    for model in carried():
        for field in model._meta.concrete_fields:
            if field.related_model:
                assert places[name_of(field.related_model)] < places[name_of(model)]
