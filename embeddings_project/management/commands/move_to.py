"""Carry an embedded installation over to PostgreSQL."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connection
from tqdm import tqdm

from embeddings_project.move.moving import Moved, move_to
from embeddings_project.move.tables import MoveProblem

RESUMES = "Run the same command again: it goes on where it was."
NEXT = """
Set DATABASE_URL to what you gave here, and start the server: on this machine nothing else changes.
Not carried over: the queue of calls for workers (jobs that wait are queued again), cached vectors, rate limits.
{database} was not changed: keep it as a backup until all is well, and then as safe as the documents.
For several nodes, all need the same secrets. Those that the environment does not set lie here:
{secrets}
"""
SECRETS = {
    "SECRET_KEY_FILE": "secret_key",
    "MEDIA_WEBHOOK_SECRET_FILE": "webhook_secret",
    "SINGLE_USER_API_KEY_FILE": "api_key",
}


class Command(BaseCommand):
    help = "Carry an embedded installation over to PostgreSQL, and compare all that arrived."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "url",
            metavar="DATABASE_URL",
            help="postgres://user:password@host:port/name of an empty database; the password may lie in ~/.pgpass",
        )
        parser.add_argument(
            "--again",
            action="store_true",
            help="empty the target of a move that broke off, and begin from the first row",
        )

    def handle(self, *, url: str, again: bool, **options: Any) -> None:
        try:
            with tqdm(unit=" rows", leave=False, disable=None) as bar:
                moved = move_to(url, again=again, begin=lambda *now: _next(bar, *now))
        except MoveProblem as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as error:
            raise CommandError(f"Stopped. {RESUMES}") from error
        except (DatabaseError, InterfaceError) as error:
            reason = str(error).partition("\n")[0]  # what follows may hold data
            raise CommandError(f"The move broke off: {reason} {RESUMES}") from error
        self.stdout.write(_told(moved))


def _next(bar: "tqdm[Any]", what: str, rows: int) -> Callable[[int], None]:
    bar.reset(total=rows)
    bar.set_description_str(what, refresh=True)

    def watch(done: int) -> None:
        bar.update(done)

    return watch


def _told(moved: Moved) -> str:
    rounded = moved.vectors.count - moved.vectors.exact
    how = f"{rounded} of them rounded to half precision" if rounded else "bit by bit"
    searches = moved.searches
    what = (
        f"{moved.rows} rows of {moved.tables} tables, {moved.vectors.count} vectors ({how})"
        f" and {searches.count} searches were the same on both sides;"
        f" of their {searches.nearest} nearest, the index finds {searches.found}."
    )
    if moved.at:
        return f"This installation was moved there at {moved.at}; nothing was done now. {what}"
    lines = [f"  {name}={settings.DATA_DIR / file}" for name, file in SECRETS.items()]
    return f"Moved: {what}\n" + NEXT.format(
        database=connection.settings_dict["NAME"], secrets="\n".join(lines)
    )
