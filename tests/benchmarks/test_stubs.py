"""What the benchmark measures against speaks as the real ones do."""

import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from benchmarks.contestants import stub_upstream, vectors_of
from benchmarks.load import Stream, send
from benchmarks.peers.stub_engine import DIMENSIONS, serve
from benchmarks.servers import free_port
from providers.engine.process.wire import Channel
from tests.waiting import poll


@pytest.fixture(scope="module")
def port():
    number = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.stub_upstream", str(number)]
    )
    poll(lambda: stub_upstream().answers(number), what="the stub to answer")
    yield number
    process.terminate()
    process.wait()


@pytest.mark.e2e
@pytest.mark.parametrize("texts", ["one", ["one", "two", "three"]])
def test_the_stub_upstream_answers_each_text_with_a_unit_vector(port, texts):
    stub = stub_upstream()
    stream = Stream(bodies=[stub.body(texts)] * 2, keep=True)

    (answers,) = send(port, stub.path, {}, [stream])

    vectors = vectors_of(answers.kept[1])
    assert vectors.shape == (1 if isinstance(texts, str) else len(texts), 1536)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    assert answers.processor_seconds > 0


def test_the_stub_engine_answers_a_run_with_a_row_for_each_text():
    near, far = socket.socketpair()
    thread = threading.Thread(target=serve, args=[far])
    thread.start()
    engine = Channel(near)

    greeting, _ = engine.receive()
    engine.send({"op": "run", "lengths": [3, 5]}, b"")
    answer, rows = engine.receive()
    engine.close()
    thread.join()

    assert greeting["pid"]
    assert answer["shape"] == [2, DIMENSIONS]
    assert len(rows) == 2 * DIMENSIONS * 4
