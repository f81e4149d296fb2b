from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from embeddings.access.api_keys import find_key
from embeddings.models import ApiKey, AuditEntry


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command("create_api_key", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_key_alone_is_printed_and_works(ada):
    out, err = run("ada", "--name", "ci", "--expires-days", "30")
    key = find_key(out.strip())
    assert key is not None
    assert (key.user, key.name, key.status) == (ada, "ci", "active")
    assert err == ""


def test_scopes_and_limits_are_taken(ada):
    out, _ = run(
        "ada",
        *("--allow-provider", "ONNX", "--allow-model", "a*", "--allow-model", "b"),
        *("--read-only-media", "--burst", "3", "--monthly-cost-usd", "2.50"),
    )
    key = find_key(out.strip())
    assert key is not None
    assert key.allowed_providers == ["onnx"]
    assert key.allowed_models == ["a*", "b"]
    assert key.read_only_media is True
    assert (key.burst, key.monthly_cost_usd) == (3, Decimal("2.5"))


def test_making_is_audited(ada):
    out, _ = run("ada")
    entry = AuditEntry.objects.get()
    assert (entry.source, entry.actor, entry.action) == (
        "command",
        "manage.py",
        "create",
    )
    assert out.strip()[15:] not in str(AuditEntry.objects.values_list()[0])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nobody"], "There is no user nobody."),
        (["ada", "--expires-days", "0"], "between 1 and 3650"),
        (["ada", "--allow-model", "a*b"], "allowed_models"),
        (["ada", "--burst", "0"], "greater than or equal to 1"),
        (["ada", "--burst", "many"], "invalid int"),
        (["ada", "--monthly-cost-usd", "x"], "invalid"),
        (["ada", "--name", "x" * 101], "at most 100"),
    ],
)
def test_senseless_arguments_are_refused_and_leave_nothing(ada, arguments, complaint):
    with pytest.raises(CommandError, match=complaint):
        run(*arguments)
    assert not ApiKey.objects.exists()
    assert not AuditEntry.objects.exists()


def test_single_user_mode_says_that_the_key_must_wait(ada, access):
    access(mode="single_user")
    assert "AUTH_MODE is single_user" in run("ada")[1]
