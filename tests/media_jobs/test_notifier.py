"""Senders of notices: what one receiver holds up is its own alone."""

import threading

import pytest
from django.utils import timezone

from media_jobs.models import Job
from media_jobs.services import notifier as notifier_module
from media_jobs.services.notifier import PER_OWNER, SENDERS, Notifier
from tests.waiting import poll


class Receivers:
    """Stand for `deliver`: note what is sent, and hang at hosts that are named until the gate opens."""

    def __init__(self, *, hanging=()):
        self.hanging, self.gate = hanging, threading.Event()
        self.sent, self.under_way = [], []

    def __call__(self, job):
        self.under_way.append(job.webhook_host)
        if any(job.webhook_host.startswith(name) for name in self.hanging):
            assert self.gate.wait(20)
        self.sent.append(job.webhook_host)


@pytest.fixture
def notifier():
    """Return a function that makes a notifier; what it still sends is let go in the end."""
    made = []

    def make(receivers):
        made.append((Notifier(receivers), receivers))
        return made[-1][0]

    yield make
    for notifier, receivers in made:
        receivers.gate.set()
        notifier.close()


@pytest.fixture
def due(create, start):
    """Return a function that makes notices that are due, in the order of their hosts."""

    def make(*hosts, **by):
        for host in hosts:
            text = f"document {Job.objects.count()}"
            media_id = create(text, **by)["media_id"]
            start(media_id, webhook_url=f"http://{host}/", **by)
        Job.objects.filter(webhook_due_at=None).update(webhook_due_at=timezone.now())

    return make


def free(notifier, host):
    poll(lambda: host not in notifier._hosts, what=f"the sender of {host} free")


def test_receiver_that_hangs_holds_one_sender_and_delays_no_other(notifier, due):
    receivers = Receivers(hanging=["dead"])
    due(*["dead.example"] * 5, "well.example", "fine.example")
    sending = notifier(receivers)
    assert sending.hand_out() == 3
    poll(lambda: len(receivers.sent) == 2, what="two notices sent")
    free(sending, "well.example")
    due("well.example")
    assert sending.hand_out() == 1
    poll(lambda: len(receivers.sent) == 3, what="a third")
    assert receivers.under_way.count("dead.example") == 1
    receivers.gate.set()
    free(sending, "dead.example")
    assert sending.hand_out() == 1


def test_notices_of_one_user_hold_at_most_half_of_the_senders(
    notifier, due, client_of, ada, make_user
):
    receivers = Receivers(hanging=["dead"])
    due(*[f"dead{number}.example" for number in range(SENDERS)], by=client_of(ada))
    sending = notifier(receivers)
    while sending.hand_out():
        pass
    assert len(sending._hosts) == PER_OWNER
    due("well.example", by=client_of(make_user("eve")))
    assert sending.hand_out() == 1
    poll(lambda: receivers.sent == ["well.example"], what="the other user's notice")


def test_no_more_is_taken_than_there_are_senders(notifier, due):
    receivers = Receivers(hanging=["dead"])
    due(*[f"dead{number}.example" for number in range(SENDERS + 3)])
    sending = notifier(receivers)
    assert sending.hand_out() == SENDERS
    assert sending.hand_out() == 0


def test_sender_that_crashes_is_free_again(notifier, due, caplog):
    receivers = Receivers()
    del receivers.under_way  # a bug
    due("odd.example")
    sending = notifier(receivers)
    assert sending.hand_out() == 1
    free(sending, "odd.example")
    assert "notice_crashed" in caplog.text


def test_notifier_shows_at_every_look_that_it_lives_and_ends_when_stopped(
    notifier, db, monkeypatch
):
    monkeypatch.setattr(notifier_module, "LOOK_SECONDS", 0.01)
    sending = notifier(Receivers())
    looks = []

    def beat():
        looks.append(True)
        if len(looks) == 2:
            sending.stop()

    sending.run(beat)
    assert len(looks) == 2
