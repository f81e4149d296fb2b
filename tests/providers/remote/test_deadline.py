import ssl

import httpcore2
import pytest

from providers.remote.deadline import Deadline, current_deadline
from providers.remote.transport import _DeadlineStream

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Clock:
    seconds = 100.0

    def __call__(self):
        return self.seconds


class Wire(httpcore2.NetworkStream):
    """Takes down the timeout of each operation, and what is written."""

    def __init__(self):
        self.timeouts = []
        self.written = []

    def read(self, max_bytes, timeout=None):
        self.timeouts.append(timeout)
        return b"x"

    def write(self, buffer, timeout=None):
        self.timeouts.append(timeout)
        self.written.append(buffer)

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        self.timeouts.append(timeout)
        return self


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def deadline(clock):
    deadline = Deadline.after(10, clock)
    token = current_deadline.set(deadline)
    yield deadline
    current_deadline.reset(token)


def test_time_left_shrinks_to_nothing(clock, deadline):
    assert deadline.remaining_seconds() == 10
    clock.seconds += 4
    assert deadline.remaining_seconds() == 6
    clock.seconds += 60
    assert deadline.remaining_seconds() == 0


def test_cancelled_deadline_has_passed(deadline):
    deadline.cancel()

    assert deadline.remaining_seconds() == 0


def test_each_socket_operation_gets_what_is_left(clock, deadline):
    wire = Wire()
    stream = _DeadlineStream(wire)

    stream.read(10, timeout=30)
    clock.seconds += 4
    stream.write(b"x", timeout=30)
    clock.seconds += 4
    stream.start_tls(TLS, timeout=None).read(10, timeout=1)

    assert wire.timeouts == [10, 6, 2, 1]


@pytest.mark.parametrize(
    ("operate", "error"),
    [
        (lambda stream: stream.read(1, 30), httpcore2.ReadTimeout),
        (lambda stream: stream.write(b"x", 30), httpcore2.WriteTimeout),
        (lambda stream: stream.start_tls(TLS), httpcore2.ConnectTimeout),
    ],
)
def test_no_socket_operation_begins_after_the_deadline(clock, deadline, operate, error):
    clock.seconds += 10
    wire = Wire()

    with pytest.raises(error):
        operate(_DeadlineStream(wire))

    assert wire.timeouts == []


def test_long_bodies_are_written_in_slices(deadline):
    wire = Wire()

    _DeadlineStream(wire).write(b"x" * 200_000, timeout=30)

    assert len(wire.timeouts) == 4


def test_head_goes_with_its_body_or_before_the_answer_is_read(deadline):
    wire = Wire()
    stream = _DeadlineStream(wire)
    head, body = b"POST / HTTP/1.1\r\n\r\n", b"ends as a head does\r\n\r\n"

    stream.write(head)
    assert wire.written == []
    stream.write(body)
    assert wire.written == [head + body]
    stream.write(head)
    stream.read(1)
    assert wire.written == [head + body, head]


def test_without_a_deadline_httpcore_s_timeout_stands():
    wire = Wire()

    _DeadlineStream(wire).read(1, timeout=3)

    assert wire.timeouts == [3]
