"""Make an API key for a user."""

from argparse import ArgumentParser
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from embeddings.access.api_keys import NewKey, create_key, expiry
from embeddings.access.caller_lookup import LIMIT_NAMES
from embeddings.conf import conf
from embeddings.models import AuditEntry
from embeddings.services.audit import record, snapshot
from embeddings.services.callers import CallerLimits
from embeddings.services.errors import ServiceError


class Command(BaseCommand):
    help = "Make an API key for a user of multi-user mode, and print it. It is shown nowhere else."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", metavar="USERNAME")
        parser.add_argument("--name", default="", help="what the key is for")
        parser.add_argument("--expires-days", type=int, metavar="DAYS")
        for kind in ("provider", "model"):
            parser.add_argument(
                f"--allow-{kind}",
                action="append",
                default=[],
                metavar=kind.upper(),
                help=f"this {kind} only; may end in *; may be given more than once",
            )
        parser.add_argument(
            "--read-only-media", action="store_true", help="read media, change none"
        )
        for name in LIMIT_NAMES:
            read = _dollars if name == "monthly_cost_usd" else int
            parser.add_argument(
                f"--{name.replace('_', '-')}", type=read, metavar="LIMIT"
            )

    def handle(self, *, username: str, **options: Any) -> None:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username}.")
        wanted = NewKey(
            name=options["name"],
            expires_at=expiry(_days(options["expires_days"])),
            allowed_providers=options["allow_provider"],
            allowed_models=options["allow_model"],
            read_only_media=options["read_only_media"],
            limits=CallerLimits(**{name: options[name] for name in LIMIT_NAMES}),
        )
        self.stdout.write(_create(user, wanted))
        if not conf().access.multi_user:
            self.stderr.write(
                "AUTH_MODE is single_user: the key is of no use until it is multi_user."
            )


def _create(user: User, wanted: NewKey) -> str:
    try:
        with transaction.atomic():
            key, text = create_key(user, wanted)
            record(
                source=AuditEntry.Source.COMMAND,
                actor="manage.py",
                action="create",
                target=f"API key {key}",
                after=snapshot(key),
            )
    except ServiceError as error:
        raise CommandError(error.message) from error
    except ValidationError as error:
        raise CommandError(" ".join(error.messages)) from error
    return text


def _days(days: int | None) -> int | None:
    if days is not None and not 0 < days <= 3650:
        raise CommandError("--expires-days must lie between 1 and 3650.")
    return days


def _dollars(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(text) from error
