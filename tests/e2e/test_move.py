"""An embedded installation carried over to a real PostgreSQL, and what is refused.

The dump is made as docs/deployment.md says.
"""

import signal
import socket
import subprocess
import sys
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
from media_jobs.models import Job, MediaItem, StoredChunk
from media_jobs.vector_store.base import Chunk, Space
from media_jobs.vector_store.store import choose
from providers.models import RemoteSpace
from tests.e2e.server import REPOSITORY, clean_environment, manage
from tests.waiting import poll

pytestmark = [
    pytest.mark.usefixtures("installation"),
    pytest.mark.sqlite_only("names its own databases"),
]
WIDTH = 8


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
        metadata={
            "large": 1e17,
            "larger": 1.2345678901234568e29,
            "deep": {"ä": [True, -0.5, -0.0]},
        },
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
    assert (moved.vectors.count, moved.searches.count, moved.at) == (40, 5, None)
    assert moved.searches.found == moved.searches.nearest == 50
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
    assert again.searches == moved.searches


@pytest.fixture
def broken_off(filled, target):
    """A move that had copied all, and was killed before it compared."""
    run(target)
    target.sql("DELETE FROM embeddings_move WHERE name = 'finished'")
    return target


CHANGES = {
    "UPDATE auth_user SET first_name = 'Eve'": "auth_user is another one",
    "DELETE FROM embeddings_auditentry": "embeddings_auditentry has 1 rows, and 0",
    "UPDATE media_jobs_storedchunk SET text = 'x' WHERE index = 7": "media_jobs_storedchunk is another one",
    "UPDATE media_jobs_chunkvector SET embedding = '[1,0,0,0,0,0,0,0]' WHERE chunk_id = 40": "The vector of chunk 40",
}


def test_difference_is_found_and_begun_from_the_first_row_on_demand(broken_off):
    for change, what in CHANGES.items():
        broken_off.sql(change)
        with pytest.raises(MoveProblem, match=f"{what}.*--again"):
            run(broken_off)
        moved, _ = run(broken_off, again=True)
        assert moved.vectors.count == 40
        broken_off.sql("DELETE FROM embeddings_move WHERE name = 'finished'")


HELD = 4711
HOLD = f"""
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_advisory_xact_lock_shared({HELD}); RETURN NEW; END';
CREATE TRIGGER hold BEFORE INSERT ON embeddings_traffic FOR EACH ROW WHEN (NEW.id = 5000) EXECUTE FUNCTION hold()
"""
MANY_ROWS = """
INSERT INTO embeddings_traffic (start, span, endpoint, provider, model, asked, outcome, requests, texts, tokens,
  cache_hits, cost)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 6000)
SELECT n, 60, 'job', 'a', 'b', 'a:b', '', 1, 1, 1, 0, 0.5 FROM numbers
"""


def test_move_that_is_killed_goes_on_with_the_next_row(filled, target, tmp_path):
    with connections["default"].cursor() as cursor:
        cursor.execute(MANY_ROWS)
    target.sql(HOLD)
    target.sql(f"SELECT pg_advisory_lock({HELD})")
    killed = subprocess.Popen(
        [sys.executable, "manage.py", "move_to", target.url],
        cwd=REPOSITORY,
        env=clean_environment(home=tmp_path, data_dir=tmp_path, port=8000),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    record = "SELECT value FROM embeddings_move WHERE name = 'embeddings_traffic'"
    there = "SELECT to_regclass('embeddings_move') IS NOT NULL"
    poll(
        lambda: target.sql(there) == [(True,)] and target.sql(record),
        seconds=60,
        what="pages copied",
    )
    poll(
        lambda: target.sql(record) == [("[4000, 4000]",)],
        seconds=60,
        what="the page before the one that is held",
    )
    killed.kill()
    assert killed.wait(60) == -signal.SIGKILL
    target.sql(f"SELECT pg_advisory_unlock({HELD})")
    others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    poll(lambda: not target.sql(others), seconds=60, what="its connection gone")
    first = "SELECT xmin, id FROM embeddings_traffic WHERE id IN (1, 4000)"
    written = target.sql(first)
    assert target.sql("SELECT max(id) FROM embeddings_traffic") == [(4000,)]
    finished = manage(tmp_path, "move_to", target.url)
    assert finished.returncode == 0, finished.stderr
    rounded = "40 of them rounded to half precision"
    assert f"40 vectors ({rounded}) and 5 searches were the same" in finished.stdout
    assert "SECRET_KEY_FILE=" in finished.stdout
    assert (tmp_path / "secret_key").read_text().strip() not in finished.stdout
    assert target.sql(first) == written  # not copied twice
    assert target.sql("SELECT count(*) FROM embeddings_traffic") == [(6000,)]


def test_dump_of_the_moved_database_is_restored_with_its_vectors(
    filled, target, tmp_path, postgres_server
):
    run(target)
    tools = postgres_server.tools
    file = tmp_path / "backup.dump"
    subprocess.run(
        [tools / "pg_dump", "--format=custom", f"--file={file}", target.url],
        check=True,
        timeout=60,
    )
    before = digests(target)
    target.sql("TRUNCATE auth_user, media_jobs_mediaitem CASCADE")
    assert digests(target) != before
    subprocess.run(
        [
            tools / "pg_restore",
            "--clean",
            "--if-exists",
            f"--dbname={target.url}",
            file,
        ],
        check=True,
        timeout=60,
    )
    assert digests(target) == before


def digests(target):
    """Return a digest of each table, vectors included."""
    tables = [*(name_of(model) for model in carried()), "media_jobs_chunkvector"]
    return [
        target.sql(
            f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {name} AS t"
        )
        for name in tables
    ]


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


def test_chunk_that_postgresql_cannot_hold_is_named(filled, target):
    row = StoredChunk.objects.order_by("pk")[20]
    StoredChunk.objects.filter(pk=row.pk).update(text="a\0secret")
    with pytest.raises(MoveProblem, match="storedchunk, row 40 or one of") as problem:
        run(target)
    assert "secret" not in str(problem.value)


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


def test_process_that_runs_is_named_and_one_that_has_ended_is_not(target):
    ended = subprocess.Popen(["true"])
    ended.wait()
    now = datetime.now(UTC)
    seen = {"role": "engine", "started_at": now, "beat_at": now}
    ProcessBeat.objects.create(host=socket.gethostname(), pid=ended.pid, **seen)
    run(target)
    ProcessBeat.objects.create(host="node-1", pid=ended.pid, **seen)
    with pytest.raises(MoveProblem, match=r"process \d+ \(engine\) on node-1"):
        run(target)


def test_rows_come_behind_those_that_they_refer_to():
    places = {name_of(model): place for place, model in enumerate(carried())}
    for model in carried():
        for field in model._meta.concrete_fields:
            if field.related_model:
                assert places[name_of(field.related_model)] < places[name_of(model)]
