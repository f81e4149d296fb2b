from datetime import UTC, datetime
from decimal import Decimal

import pytest
import structlog
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError

from embeddings.models import AuditEntry, UserLimits
from embeddings.services.audit import changed, record, record_api, snapshot
from embeddings.services.callers import SINGLE_USER
from providers.models import ModelEntry, ProviderSetting


def test_entry_holds_who_what_when_and_in_which_request(db):
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        record_api(SINGLE_USER, "clear", "embedding cache", before={"vectors": 3})
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.source, entry.credential) == (
        "single_user",
        "api",
        "single_user",
    )
    assert (entry.action, entry.target) == ("clear", "embedding cache")
    assert (entry.before, entry.after) == ({"vectors": 3}, None)
    assert entry.request_id == "r-1"
    assert (datetime.now(UTC) - entry.at).total_seconds() < 60


def test_log_is_append_only(db):
    record(
        source=AuditEntry.Source.COMMAND,
        actor="manage.py",
        action="create",
        target="x" * 999,
    )
    entry = AuditEntry.objects.get()
    for change in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(actor="nobody"),
    ):
        with pytest.raises(ValidationError, match="append-only"):
            change()
    assert AuditEntry.objects.get().actor == "manage.py"


def test_snapshot_names_secrets_as_set_only(db):
    user = User.objects.create_user("ada", password="correct horse battery")
    user.groups.add(Group.objects.create(name="readers"))
    state = snapshot(user)
    assert state["password"] == "set"
    assert state["groups"] == ["readers"]
    assert "last_login" not in state


def test_snapshot_leaves_passwords_in_urls_out():
    row = ProviderSetting(name="openai", base_url="https://me:secret@example.org/v1")
    assert snapshot(row)["base_url"] == "https://…@example.org/v1"


def test_snapshot_writes_numbers_alike_before_and_after_storing(db):
    row = ModelEntry(provider="x", name="y", price_per_million_tokens=Decimal("0.10"))
    assert snapshot(row)["price_per_million_tokens"] == "0.1"
    user = User.objects.create_user("ada")
    limits = UserLimits.objects.create(user=user, monthly_cost_usd=Decimal("5"))
    limits.refresh_from_db()
    assert snapshot(limits)["monthly_cost_usd"] == "5"


def test_only_what_changed_is_logged():
    before, after = changed({"a": 1, "b": 2}, {"a": 1, "b": 3})
    assert (before, after) == ({"b": 2}, {"b": 3})
