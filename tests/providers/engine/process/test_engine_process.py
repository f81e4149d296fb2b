"""The engine as a process of its own: what its clients get, also when it dies, hangs or is away."""

import multiprocessing
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from providers.engine.inference import Work, revision_of
from providers.engine.local_provider import Engine
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.pool import Pool, PoolLimits
from providers.engine.process import engine_client
from providers.engine.process import place as place_module
from providers.engine.process.engine_client import EngineClient
from providers.engine.process.place import Place, listens, recorded, write_death
from providers.engine.process.server import EngineServer, exit_hung
from providers.engine.tokenizer import ModelTokenizer
from providers.engine.tokenizers import Tokenizers
from providers.engine.weights import Weights
from providers.exceptions import (
    Abandoned,
    EngineCrashed,
    EngineNotServed,
    ModelReplaced,
    Overloaded,
    ProviderMisconfigured,
    ProviderTimeout,
    ProviderUnavailable,
    TextsTooLong,
)
from providers.waiting import caller_left
from tests.providers.engine import tiny
from tests.providers.engine.test_static import write_static
from tests.waiting import poll

pytestmark = pytest.mark.e2e  # seconds of other processes

NAME = "own/tiny"
# Words that make the runtime of these tests do what no model should.
CRASH, WAIT = "x", "z"
LETTERS = {word: 4 + "abcdefghijklmnopqrstuvwxyz".index(word) for word in "xz"}


@pytest.fixture
def weights(tmp_path):
    weights = Weights(
        tmp_path / "data", model_paths=(tiny.write_model(tmp_path / NAME),)
    )
    weights.prepare(weights.local_folders().__iter__().__next__())
    return weights


@pytest.fixture
def name(weights):
    return weights.prepared_names()[0]


@pytest.fixture
def place(weights, monkeypatch):
    monkeypatch.setattr(place_module, "_of_parent", [])
    with tempfile.TemporaryDirectory() as folder:  # of a short path
        place = Place(weights.data_dir, Path(folder))
        yield place
        place.close()


@pytest.fixture
def misbehaving(monkeypatch, tmp_path):
    """Have the runtime crash, hang or wait for `tmp_path / "go"` at some words, in processes forked from now on."""
    run = OnnxRuntime.run

    def misbehave(self, rows, *, wide=False):
        words = {int(token) for row in rows for token in row.token_ids}
        if LETTERS[CRASH] in words:
            os._exit(99)
        while LETTERS[WAIT] in words and not (tmp_path / "go").exists():
            time.sleep(0.01)
        return run(self, rows, wide=wide)

    monkeypatch.setattr(OnnxRuntime, "run", misbehave)


@pytest.fixture
def start(weights, place, misbehaving):
    """Return a function that starts an engine at the socket. Each that ends is recorded, as its owner does."""
    engines = []

    def be_engine(limits):
        pool = Pool(weights, limits, on_hung=exit_hung)
        EngineServer(pool, place.listener, drain_seconds=5).serve()

    def start(**limits):
        process = multiprocessing.get_context("fork").Process(
            target=be_engine, args=[PoolLimits(threads=1, **limits)]
        )
        process.start()
        engines.append(Running(process, place.path.parent))
        return engines[-1]

    yield start
    for engine in engines:
        engine.kill()
        engine.join()


class Running:
    """An engine process whose end is recorded, as its owner does."""

    def __init__(self, process, folder):
        self._process = process
        self._recorder = threading.Thread(target=self._record, args=[folder])
        self._recorder.start()
        self.kill = process.kill

    def join(self):
        self._recorder.join()

    def _record(self, folder):
        self._process.join()
        write_death(folder, self._process.pid, self._process.exitcode)


@pytest.fixture
def client(weights, place):
    client = EngineClient(place.path, Tokenizers(weights))
    yield client
    client.close()


@pytest.fixture
def run(weights, name):
    """Return a function that has `inference` run texts."""
    prepared = weights.find(name)

    def run(inference, *texts, seconds=60.0, revision=None, prompt=""):
        work = Work(
            model=name,
            precision="exact",
            revision=revision or revision_of(prepared, "exact"),
            texts=texts,
            prompt=prompt,
        )
        return inference.run(work, timeout_seconds=seconds)

    return run


def run_when_ended(engine, start):
    """Start the next engine as soon as one ended."""
    thread = threading.Thread(target=lambda: (engine.join(), start()))
    thread.start()
    return thread


def test_vectors_are_those_of_a_model_in_this_process(weights, start, client, run):
    start()
    inline = Pool(weights, PoolLimits(threads=1))
    texts = ("a b c", "d", "e f g h i j k l m n o p q")
    for prompt in ("", "a b "):
        ours = run(inline, *texts, prompt=prompt)
        theirs = run(client, *texts, prompt=prompt)
        assert theirs.dtype == np.float32
        assert np.abs(theirs - ours).max() < 1e-6
    inline.close()


def test_a_static_model_is_run_by_the_engine_process(weights, place, start, client):
    write_static(weights.data_dir / "models" / "static", at="0_StaticEmbedding")
    prepared = weights.prepare("static")
    start()
    work = Work(
        model="static",
        precision="fast",  # which it has not
        revision=revision_of(prepared, "fast"),
        texts=["the word", "a " * 700, "中文"],
    )
    inline = Pool(weights, PoolLimits(threads=1))
    ours = inline.run(work, timeout_seconds=60)
    assert np.abs(client.run(work, timeout_seconds=60) - ours).max() < 1e-6
    there = EngineClient(place.path, Tokenizers(weights, most_bytes=10))
    assert np.abs(there.run(work, timeout_seconds=60) - ours).max() < 1e-6
    assert there.tokenizer("static").count(["the word", ""]) == [2, 0]
    there.close()
    inline.close()


def test_a_large_vocabulary_is_in_the_engine_alone(weights, place, start, run, name):
    start()
    here = EngineClient(place.path, Tokenizers(weights))
    there = EngineClient(place.path, Tokenizers(weights, most_bytes=10))
    texts = ["a b c", "d e", "Ünlike anything"]
    assert np.abs(run(there, *texts) - run(here, *texts)).max() < 1e-6
    ours, theirs = here.tokenizer(name), there.tokenizer(name)
    assert isinstance(ours, ModelTokenizer)
    assert not isinstance(theirs, ModelTokenizer)
    assert theirs.count(texts) == ours.count(texts)
    assert theirs.truncate("a b c d e f", 4) == ours.truncate("a b c d e f", 4)
    assert theirs.decode([4, 5]) == ours.decode([4, 5])
    with pytest.raises(ValueError, match="outside the model's vocabulary"):
        theirs.decode([10**6])
    with pytest.raises(TextsTooLong):
        run(there, "a " * 50)
    here.close()
    there.close()


def test_many_threads_get_each_their_own_vectors(start, client, run):
    start()
    texts = [f"{a} {b}" for a in "abcdefgh" for b in "ijklmnop"]
    alone = {text: run(client, text)[0] for text in texts}
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: run(client, text)[0], texts * 4))
    for text, vector in zip(texts * 4, found, strict=True):
        assert np.abs(vector - alone[text]).max() < 1e-6


def test_a_large_call_goes_through(start, client, run):
    start()
    texts = [f"{a} {b} " * 10 for a in "abcdefgh" for b in "ijklmnop"] * 32
    vectors = run(client, *texts)
    assert vectors.shape == (2048, tiny.HIDDEN)
    assert np.abs(vectors[:64] - vectors[-64:]).max() < 1e-6


def test_state_says_what_is_loaded(start, client, run, name):
    start()
    assert not client.loaded(name, "exact")
    run(client, "a")
    assert client.loaded(name, "exact")
    assert client.healthy()
    assert client.refusal(name, "exact") is None


@pytest.mark.parametrize(
    ("raised", "call"),
    [
        (TextsTooLong, {"texts": ("a " * 50,)}),
        (ModelReplaced, {"texts": ("a",), "revision": "another"}),
        (ProviderTimeout, {"texts": (WAIT,), "seconds": 0.05}),
    ],
)
def test_what_the_engine_refuses_is_raised_here(start, client, run, raised, call):
    start()
    with pytest.raises(raised):
        run(client, *call.pop("texts"), **call)


def test_a_model_that_is_not_prepared_is_named(start, client):
    start()
    work = Work(model="no/such", precision="exact", revision="1", texts=["a"])
    with pytest.raises(ProviderMisconfigured, match="download_model no/such"):
        client.run(work, timeout_seconds=60)


def test_a_full_queue_says_when_to_come_back(start, client, run, tmp_path):
    start(queue_tokens=10)
    calls = []

    def refused():
        calls.append(pool.submit(run, client, *[f"{WAIT} a b c d"] * 60))
        errors = [call.exception() for call in calls if call.done()]
        return [error for error in errors if isinstance(error, Overloaded)]

    with ThreadPoolExecutor(16) as pool:
        found = poll(refused, what="a full queue")
        (tmp_path / "go").touch()
        assert found[0].retry_after_seconds


def test_a_call_whose_client_left_is_given_up(start, client, run):
    start()
    run(client, "a")
    token = caller_left.set(lambda: True)
    try:
        with pytest.raises(Abandoned):
            run(client, WAIT)
    finally:
        caller_left.reset(token)
    assert client.healthy()


def test_a_call_goes_to_the_next_engine_when_one_is_killed(
    start, client, run, tmp_path
):
    expected = None
    engine = start()
    expected = run(client, "a")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(run, client, f"{WAIT} a")
        poll(lambda: client.healthy(), what="the engine")
        engine.kill()
        (tmp_path / "go").touch()
        start()
        assert call.result(60).shape == expected.shape


def test_a_connection_that_an_engine_left_is_no_lost_call(start, client, run, caplog):
    first = start()
    before = run(client, "a")
    first.kill()
    first.join()
    start()
    assert np.abs(run(client, "a") - before).max() < 1e-6
    assert "engine_lost" not in caplog.text


def test_a_text_that_takes_the_engine_down_twice_is_to_blame(start, client, run):
    first = start()
    run(client, "a")
    following = run_when_ended(first, start)
    with pytest.raises(EngineCrashed):
        run(client, CRASH)
    following.join()


def test_a_call_that_is_killed_twice_is_not_to_blame(start, client, run, name):
    first = start()
    run(client, "a")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(run, client, WAIT)
        time.sleep(0.3)
        first.kill()
        first.join()
        second = start()
        poll(lambda: client.loaded(name, "exact"), what="the second engine at work")
        time.sleep(0.3)
        second.kill()
        with pytest.raises(ProviderUnavailable) as raised:
            call.result(60)
        assert raised.value.retry_after_seconds


def test_others_of_a_crash_are_answered(start, client, run):
    first = start()
    expected = run(client, "a b")
    start_next = run_when_ended(first, start)
    with ThreadPoolExecutor(4) as pool:
        guilty = pool.submit(run, client, CRASH)
        with pytest.raises(EngineCrashed):
            guilty.result(60)
        start()
        found = list(pool.map(lambda _: run(client, "a b"), range(4)))
    start_next.join()
    assert all(np.abs(vectors - expected).max() < 1e-6 for vectors in found)


def test_an_engine_whose_thread_hangs_ends_itself(
    weights, place, misbehaving, client, run
):
    def be_engine():
        pool = Pool(weights, PoolLimits(threads=1), on_hung=exit_hung)
        with pool.using(weights.prepared_names()[0]) as loaded:
            loaded.batcher._hung_after_seconds = 0.2
        EngineServer(pool, place.listener, drain_seconds=0).serve()

    engine = multiprocessing.get_context("fork").Process(target=be_engine)
    engine.start()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(run, client, WAIT, seconds=20)
        engine.join(20)
        assert engine.exitcode == place_module.HUNG
        place.close()
        with pytest.raises(ProviderUnavailable):
            call.result(60)


def test_without_an_engine_a_call_waits_and_then_is_unavailable(
    place, client, run, monkeypatch
):
    monkeypatch.setattr(engine_client, "GREETING_SECONDS", 0.1)
    monkeypatch.setattr(engine_client, "LOOK_SECONDS", 0.05)
    with pytest.raises(ProviderUnavailable) as raised:
        run(client, "a")
    assert raised.value.retry_after_seconds
    assert not client.healthy()
    assert not client.loaded("own/tiny", "exact")


def test_the_socket_is_its_owners_alone(place):
    assert place.path.stat().st_mode & 0o777 == 0o600


def test_a_data_folder_knows_its_socket_while_somebody_listens(weights, place):
    place_module._of_parent.clear()
    assert recorded(weights.data_dir) == place.path
    assert listens(place.path)
    place.close()
    assert not listens(recorded(weights.data_dir))
    assert not place.path.exists()


@pytest.mark.parametrize("mode", ["auto", "process", "inline"])
def test_each_mode_runs_models_where_it_says(weights, place, start, run, mode, name):
    start()
    pool = Pool(weights, PoolLimits(threads=1))
    engine = Engine(weights, pool, process=mode)
    assert run(engine, "a").shape == (1, tiny.HIDDEN)
    assert pool.loaded(name, "exact") is (mode == "inline")
    engine.inference.close()
    pool.close()


def test_auto_runs_models_here_where_nobody_listens_any_more(
    weights, place, start, run, name
):
    engine = start()
    pool = Pool(weights, PoolLimits(threads=1))
    auto = Engine(weights, pool, process="auto")
    expected = run(auto, "a")
    engine.kill()
    engine.join()
    place.close()
    assert np.abs(run(auto, "a") - expected).max() < 1e-6
    assert pool.loaded(name, "exact")
    pool.close()


def test_process_alone_does_not_run_models_here(weights, place, run):
    place.close()
    engine = Engine(weights, Pool(weights, PoolLimits(threads=1)), process="process")
    with pytest.raises(EngineNotServed):
        run(engine, "a")
