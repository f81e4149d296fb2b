"""What the audit log's entries say to who reads them."""

import pytest

from embeddings.models import AuditEntry
from embeddings.services.audit import differences, sentence


@pytest.mark.parametrize(
    ("action", "target", "words"),
    [
        (
            "reset",
            "circuit breaker openai",
            "ada closed (reset) the circuit breaker openai",
        ),
        ("make default", "model m", "ada made model m the default"),
        ("log in", "from 192.0.2.1", "ada logged in from 192.0.2.1"),
        ("juggle", "three {} balls", "ada: juggle three {} balls"),
        ("change", "user {0}", "ada changed user {0}"),
    ],
)
def test_entry_is_a_sentence(action, target, words):
    assert sentence(AuditEntry(actor="ada", action=action, target=target)) == words


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ({"burst": 1, "name": "a"}, {"burst": 2, "name": "a"}, {"burst": ("1", "2")}),
        (None, {"is_staff": True, "email": ""}, {"is staff": ("", "yes")}),
        ({"allowed_models": ["a", "b"]}, None, {"allowed models": ("a, b", "")}),
        ({"limits": None}, {"limits": {"burst": 7}}, {"limits, burst": ("", "7")}),
        (None, None, {}),
    ],
)
def test_only_fields_that_differ_are_named(before, after, fields):
    found = differences(AuditEntry(before=before, after=after))
    assert {one.field: (one.before, one.after) for one in found} == fields


def test_what_no_code_of_ours_wrote_is_shown_too():
    found = differences(AuditEntry(before=[1, {"a": None}], after="x" * 1000))
    assert [one.field for one in found] == ["value"]
    assert len(found[0].after) < 600
