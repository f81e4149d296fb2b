"""The audit log: who did what as an admin, and what it was before and after. Never holds a secret."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db.models import Model

from embeddings.models import AuditEntry
from embeddings.services.callers import Caller

# Fields that are named in the log only as set or not, and fields that change by themselves.
SECRET_FIELDS = frozenset({"password", "digest"})
UNNOTED_FIELDS = frozenset({"last_login", "last_used_at"})
USERINFO = re.compile(r"(?<=://)[^/@\s]+@")

State = Mapping[str, Any]


def record(
    *,
    source: AuditEntry.Source,
    actor: str,
    action: str,
    target: str,
    credential: str = "",
    before: State | None = None,
    after: State | None = None,
) -> None:
    """Write one entry; the request's id comes from the log's context."""
    context = structlog.contextvars.get_contextvars()
    AuditEntry.objects.create(
        source=source,
        actor=actor,
        credential=credential,
        action=action,
        target=target[:300],
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
        request_id=str(context.get("request_id", "")),
    )


def record_api(
    caller: Caller,
    action: str,
    target: str,
    *,
    before: State | None = None,
    after: State | None = None,
) -> None:
    """Write down what a caller of the API did."""
    record(
        source=AuditEntry.Source.API,
        actor=caller.username,
        credential=caller.id,
        action=action,
        target=target,
        before=before,
        after=after,
    )


def snapshot(row: Model) -> dict[str, Any]:
    """Return a row's fields as JSON, many-to-many names included; secrets only as set or empty."""
    fields = [*row._meta.concrete_fields, *row._meta.many_to_many]
    return {
        field.name: _value(row, field.name)
        for field in fields
        if field.name not in UNNOTED_FIELDS
    }


def changed(before: State, after: State) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return only the fields that differ, as they were and as they are."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {
        name: after[name] for name in names
    }


# What was done, with what; another action is shown by its own name.
SENTENCES = {
    "accept": "accepted a new revision of {}",
    "add": "added {}",
    "cancel": "cancelled {}",
    "change": "changed {}",
    "clear": "cleared the {}",
    "create": "created {}",
    "delete": "deleted {}",
    "download": "downloaded {}",
    "embed": "had {} embedded",
    "fail to log in": "failed to log in {}",
    "lock": "locked {}",
    "log in": "logged in {}",
    "log out": "logged out {}",
    "make default": "made {} the default",
    "remove vectors": "removed the vectors of {}",
    "reset": "closed (reset) the {}",
    "retry": "started {} once more",
    "revoke": "revoked {}",
    "test": "tested {}",
    "warm up": "warmed up {}",
}
LONGEST_VALUE = 500


def sentence(entry: AuditEntry) -> str:
    """Say what an entry is about: who did what."""
    done = SENTENCES.get(entry.action)
    if done is None:
        return f"{entry.actor}: {entry.action} {entry.target}"
    return f"{entry.actor} {done.format(entry.target)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field, in words, as it was and as it became; empty where it was not, or held nothing."""

    field: str
    before: str
    after: str


def differences(entry: AuditEntry) -> list[Difference]:
    """Return what an entry says of each field that is not alike before and after."""
    before, after = _flat(entry.before), _flat(entry.after)
    return [
        Difference(field=name, before=before.get(name, ""), after=after.get(name, ""))
        for name in {**before, **after}
        if before.get(name, "") != after.get(name, "")
    ]


def _flat(state: Any, path: str = "") -> dict[str, str]:
    """Return fields by their names in words, those of fields included."""
    if isinstance(state, dict):
        fields: dict[str, str] = {}
        for name, value in state.items():
            fields |= _flat(value, f"{path}, {name}" if path else str(name))
        return fields
    return {path.replace("_", " ") or "value": _in_words(state)}


def _in_words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _value(row: Model, name: str) -> Any:
    if name in SECRET_FIELDS:
        return "set" if getattr(row, name) else "empty"
    value = getattr(row, name)
    if hasattr(value, "all"):
        return sorted(str(other) for other in value.all())
    return _as_json(value)


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | list | dict):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return USERINFO.sub("…@", str(value))
