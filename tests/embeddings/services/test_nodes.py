"""What nodes on one database say of themselves, and what is said where they differ."""

from datetime import UTC, datetime, timedelta

import pytest
import structlog
from django.apps import apps

from embeddings.models import Node
from embeddings.services import nodes
from embeddings.services.hints import hints
from embeddings.services.nodes import NodeBeat, PreparedModels
from embeddings_project.shared_settings import node_name, shared_settings

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
SAME = {"EMBEDDINGS_FALLBACK": "any", "SECRET_KEY": "a" * 40}


@pytest.fixture
def clock(monkeypatch):
    """Return a function that lets seconds pass."""
    now = [NOON]
    monkeypatch.setattr(f"{nodes.__name__}.timezone.now", lambda: now[0])

    def turn(seconds):
        now[0] += timedelta(seconds=seconds)

    return turn


@pytest.fixture
def node(clock, settings, monkeypatch, tmp_path):
    """Return a function that starts a process of a node; each has its folder, name and models."""

    def start(name, run="first", models=(), host="alpha", program=0, **changes):
        settings.NODE_NAME = name
        settings.NODE_SETTINGS = shared_settings({**SAME, **changes})
        monkeypatch.setattr(nodes, "server_folder", lambda: tmp_path / run)
        monkeypatch.setattr(f"{nodes.__name__}.socket.gethostname", lambda: host)
        monkeypatch.setattr(PreparedModels, "revisions", lambda _: dict(models))
        started_at = NOON + timedelta(seconds=program)
        monkeypatch.setattr(apps.get_app_config("providers"), "started_at", started_at)
        beat = NodeBeat("web")
        beat.say()
        return beat

    return start


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as lines:
        yield lines


def warnings(log):
    return [(line["event"], line.get("setting"), line.get("peer")) for line in log]


def problems():
    return [hint.problem for hint in hints() if "alpha" in hint.problem]


def test_nodes_that_are_alike_say_nothing(node, log):
    node("aaaa")
    node("bbbb")
    assert log == []
    assert problems() == []


def test_a_start_that_differs_names_the_settings_and_the_peer(node, log):
    node("aaaa", host="alpha")
    node("bbbb", host="beta", EMBEDDINGS_FALLBACK="off", SECRET_KEY="b" * 40)
    assert warnings(log) == [
        ("node_differs", "EMBEDDINGS_FALLBACK", "alpha (serve-aaaa)"),
        ("node_differs", "SECRET_KEY", "alpha (serve-aaaa)"),
    ]
    assert problems() == [
        f"{name} differs between nodes: alpha (serve-aaaa); beta (serve-bbbb)."
        for name in ("EMBEDDINGS_FALLBACK", "SECRET_KEY")
    ]


def test_what_is_of_one_machine_is_not_compared():
    values = {"PORT": 1, "WEB_THREADS": 2, "HTTP_MIN_RATE": 3, "HTTPS_REDIRECT": True}
    assert [*shared_settings(values)] == ["HTTPS_REDIRECT"]


def test_a_name_is_drawn_once_and_only_where_nodes_share_a_database(tmp_path):
    sqlite, postgres = "providers.state.sqlite3", "providers.state.postgresql"
    assert node_name(tmp_path, engine=sqlite) == ""
    name = node_name(tmp_path / "a", engine=postgres)
    assert name and node_name(tmp_path / "a", engine=postgres) == name
    assert node_name(tmp_path / "b", engine=postgres) != name
    (tmp_path / "file").touch()
    assert node_name(tmp_path / "file" / "data", engine=postgres) == ""


def test_no_value_is_in_what_nodes_write(node):
    node("aaaa", SECRET_KEY="a-secret-that-nobody-may-read-0123")
    stored = str(Node.objects.values_list()[0])
    assert "a-secret" not in stored
    assert {len(each) for each in Node.objects.get().settings.values()} == {5}


def test_a_model_that_only_some_nodes_have_is_shown(node, log):
    node("aaaa", models={"small": "r1"})
    node("bbbb", host="beta")
    assert warnings(log) == [("node_differs", "the model small", "alpha (serve-aaaa)")]
    assert problems() == [
        "Nodes lack the model small: beta (serve-bbbb). It is on alpha (serve-aaaa)."
    ]


def test_a_model_of_another_revision_is_shown(node):
    node("aaaa", models={"small": "r1"})
    node("bbbb", models={"small": "r2"})
    assert problems() == [
        "the model small differs between nodes: alpha (serve-aaaa); alpha (serve-bbbb)."
    ]


def test_a_model_that_is_fetched_later_is_noted(node, clock, monkeypatch):
    one = node("aaaa")
    monkeypatch.setattr(PreparedModels, "revisions", lambda _: {"small": "r1"})
    clock(10)
    one.say()
    assert Node.objects.get().prepared == {"small": "r1"}


def test_one_process_of_a_run_compares(node, log):
    node("aaaa")
    for _ in range(3):
        node("bbbb", EMBEDDINGS_FALLBACK="off")
    assert len(log) == 1


def test_a_restart_with_other_settings_replaces_what_was_said_before(node, log):
    node("aaaa", run="first", EMBEDDINGS_FALLBACK="off")
    node("aaaa", run="second")
    node("bbbb")
    assert log == []
    assert Node.objects.count() == 2


def test_processes_from_before_a_reload_do_not_bring_their_settings_back(node, log):
    before = node("aaaa", EMBEDDINGS_FALLBACK="off")
    node("aaaa", program=60)
    before.say()
    node("bbbb")
    assert log == []


def test_a_node_that_is_silent_is_no_peer_and_is_forgotten_after_an_hour(
    node, log, clock
):
    node("aaaa", EMBEDDINGS_FALLBACK="off")
    clock(40)
    node("bbbb")
    assert log == []
    assert problems() == []
    clock(3700)
    node("cccc")
    assert [row.name for row in Node.objects.order_by("name")] == ["serve-cccc"]


def test_two_that_run_with_one_name_are_found(node, log, clock):
    one = node("aaaa", run="first", host="alpha")
    other = node("aaaa", run="second", host="alpha")
    for _ in range(3):
        clock(10)
        one.say()
        other.say()
    assert [line["event"] for line in log] == ["node_name_taken"] * 2
    assert "the file `node`" in log[0]["remedy"]
    assert problems() == ["Two servers have the name of one node: alpha (serve-aaaa)."]
    clock(40)
    one.say()  # the other was stopped
    clock(40)
    one.say()
    assert problems() == []


def test_a_worker_beside_its_server_is_a_node_of_its_own(node, monkeypatch):
    node("aaaa")
    monkeypatch.setattr(nodes, "server_folder", lambda: None)
    NodeBeat("worker").say()
    NodeBeat("web").say()  # of a gunicorn that `serve` did not start
    names = Node.objects.order_by("name").values_list("name", flat=True)
    assert [*names] == ["serve-aaaa", "worker-aaaa"]


def test_nothing_is_written_where_there_is_one_node(node, settings):
    node("")
    assert not Node.objects.exists()
