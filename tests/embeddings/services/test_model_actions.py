"""Downloads and warm-ups are written down while they run: how far they are, how they ended, and that they were lost."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from embeddings.services import action_records, model_actions
from embeddings.services.action_records import (
    beat,
    cancel_actions,
    latest_action,
    latest_actions,
    new_action,
    recorded,
    running_action,
)
from embeddings.services.errors import Conflict, ModelActionFailed, ModelNotFound
from providers.exceptions import Abandoned, ActionCancelled, ProviderUnavailable
from providers.models import ModelAction
from providers.progress import Progress, progress
from providers.waiting import caller_left
from tests.fakes import MINILM

pytestmark = pytest.mark.django_db


def state():
    found = latest_action("onnx", MINILM)
    assert found is not None
    return found


def test_download_is_written_down_with_its_bytes_and_who_asked(fakes, monkeypatch):
    fetch = fakes["onnx"].download

    def download(name):
        progress().begin("fetching", total_bytes=10)
        progress().advance(4)
        assert state().running
        return fetch(name)

    monkeypatch.setattr(fakes["onnx"], "download", download)
    model_actions.download(model=MINILM, provider="onnx")
    done = state()
    assert (done.kind, done.state, done.stage) == ("download", "done", "fetching")
    assert (done.done_bytes, done.total_bytes, done.percent) == (4, 10, 40)
    assert (done.started_by, done.error) == ("system", None)
    assert done.finished_at is not None


def test_warm_up_and_its_failure_are_written_down(fakes):
    fakes["onnx"].fault = ProviderUnavailable("The engine is away.")
    with pytest.raises(ModelActionFailed):
        model_actions.warm_up(model=f"onnx:{MINILM}")
    failed = state()
    assert (failed.kind, failed.state) == ("warm_up", "failed")
    assert failed.error == "The engine is away."


def test_crash_is_written_down_as_one(fakes):
    fakes["onnx"].fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        model_actions.warm_up(model=f"onnx:{MINILM}")
    assert state().state == "failed"


@pytest.mark.parametrize("error", [ActionCancelled, Abandoned])
def test_cancelled_download_is_a_conflict_that_says_what_is_kept(
    fakes, monkeypatch, error
):
    def download(name):
        action = progress()
        action.cancel()
        raise error("It ended.")

    monkeypatch.setattr(fakes["onnx"], "download", download)
    with pytest.raises(Conflict, match="goes on from there"):
        model_actions.download(model=MINILM, provider="onnx")
    assert (state().state, state().error) == ("cancelled", None)


def test_client_that_left_is_not_a_cancellation(fakes):
    fakes["onnx"].fault = Abandoned("The client closed the connection.")
    with pytest.raises(ModelActionFailed):
        model_actions.warm_up(model=f"onnx:{MINILM}")
    assert state().state == "failed"


def test_wait_for_the_engine_ends_when_the_action_is_cancelled():
    with recorded("warm_up", "onnx", MINILM, by="ada") as action:
        assert not caller_left.get()()
        action.cancel()
        assert caller_left.get()()
    assert not caller_left.get()()


def test_action_whose_process_is_gone_is_lost():
    row = new_action("download", "onnx", MINILM, by="ada")
    long_ago = timezone.now() - timedelta(minutes=1)
    ModelAction.objects.filter(pk=row.pk).update(seen_at=long_ago)
    assert state().state == "lost"
    assert "Start it again" in (state().error or "")
    assert running_action("download", "onnx", MINILM) is None
    assert not cancel_actions("download", "onnx", MINILM)


def test_last_action_of_each_model_is_known():
    for kind in ("download", "warm_up"):
        new_action(kind, "onnx", MINILM, by="ada")
    new_action("download", "huggingface", MINILM, by="ada")
    found = {key: one.kind for key, one in latest_actions().items()}
    assert found == {
        ("onnx", MINILM): "warm_up",
        ("huggingface", MINILM): "download",
    }


def test_only_the_last_actions_are_kept_and_none_that_runs_is_forgotten(monkeypatch):
    monkeypatch.setattr(action_records, "KEPT_ACTIONS", 2)
    first = new_action("download", "onnx", "first", by="")
    for number in range(4):
        new_action("download", "onnx", str(number), by="")
        ModelAction.objects.exclude(pk=first.pk).update(state="done")
    left = set(ModelAction.objects.values_list("model", flat=True))
    assert left == {"first", "2", "3"}


def test_model_is_made_ready_while_the_database_is_away(fakes):
    def away(execute, sql, params, many, context):
        if "modelaction" in sql:
            raise OperationalError("the database is away")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(away):
        model_actions.download(model=MINILM, provider="onnx")
        assert latest_action("onnx", MINILM) is None


def test_start_refuses_at_once_what_cannot_be_done(fakes):
    with pytest.raises(ModelNotFound):
        model_actions.start("warm_up", model="onnx:nope", by="ada")
    assert not ModelAction.objects.exists()


def test_api_shows_the_action_but_not_who_began_it(client, fakes):
    new_action("download", "onnx", MINILM, by="ada")
    body = client.get(f"/api/v1/embeddings/models/onnx:{MINILM}").json()
    assert body["action"]["state"] == "running"
    assert "ada" not in str(body)


def test_cancel_by_another_process_is_learnt_at_the_next_beat(fakes, monkeypatch):
    def download(name):
        progress().begin("fetching", total_bytes=100)
        progress().advance(7)
        row = ModelAction.objects.get()
        assert cancel_actions("download", "onnx", MINILM)
        beat(row, progress())
        assert state().done_bytes == 7
        progress().check()

    monkeypatch.setattr(fakes["onnx"], "download", download)
    monkeypatch.setattr(model_actions, "in_background", lambda work: work())
    with pytest.raises(Conflict):
        model_actions.start("download", model=MINILM, provider="onnx", by="ada")
    assert (state().state, state().started_by) == ("cancelled", "ada")


def test_progress_is_watched():
    seen = []
    watched = Progress(lambda one: seen.append((one.stage, one.done_bytes)))
    watched.begin("fetching", total_bytes=5)
    watched.expect(5)
    watched.advance(3)
    watched.advance(-4)
    assert seen == [("fetching", 0), ("fetching", 0), ("fetching", 3), ("fetching", 0)]
    assert watched.total_bytes == 10


def test_cancel_is_seen_before_the_next_stage_without_waiting_for_a_beat(db):
    with (
        pytest.raises(ActionCancelled),
        recorded("download", "huggingface", "org/one", by="boss") as done,
    ):
        done.begin("fetching")
        assert cancel_actions("download", "huggingface", "org/one")
        done.begin("building its graph")
    action = latest_action("huggingface", "org/one")
    assert action is not None
    assert action.state == "cancelled"
