"""Who logged in, or tried to, is in the audit log; guessing does not fill it."""

import pytest
from django.test import Client

from embeddings.access import login_records
from embeddings.access.login_guard import LockedOut, guarded_login
from embeddings.models import AuditEntry


def entries():
    rows = AuditEntry.objects.order_by("pk")
    return [f"{row.actor}: {row.action} {row.target}" for row in rows]


def guess(username="ada", address="192.0.2.1"):
    with pytest.raises((ValueError, LockedOut)):  # noqa: SIM117
        with guarded_login(username=username, address=address):
            raise ValueError


def test_console_s_logins_and_log_outs_are_written_down(make_user):
    user = make_user("ada", is_staff=True)
    user.set_password("correct horse battery")
    user.save()
    client = Client()
    form = {"username": "ada", "password": "correct horse battery"}
    client.post("/admin/login/", form)
    client.post("/admin/logout/")
    assert entries() == [
        "ada: log in from 127.0.0.1",
        "ada: log out of the console",
    ]
    assert {row.source for row in AuditEntry.objects.all()} == {"console"}


def test_one_failure_a_minute_and_each_lock_are_written_down(ada):
    for _ in range(7):
        guess()
    first, again, lock = entries()
    assert first == again == "somebody: fail to log in as ada from 192.0.2.1"
    assert lock == "server: lock logins as ada from 192.0.2.1 for 30 seconds"


def test_what_was_typed_for_a_name_is_not_written_down(db):
    guess(username="my password")
    assert entries() == [
        "somebody: fail to log in under an unknown name from 192.0.2.1"
    ]


def test_guessing_from_everywhere_does_not_fill_the_log(db, monkeypatch):
    monkeypatch.setattr(login_records, "MOST_FAILURES_AN_HOUR", 3)
    for number in range(9):
        guess(address=f"192.0.2.{number}")
    assert len(entries()) == 3
