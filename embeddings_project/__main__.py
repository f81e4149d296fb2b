"""The command line: `embeddings-server`, `python -m embeddings_project` and manage.py."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.management import ManagementUtility, get_commands, load_command_class

from embeddings_project import __version__, layout, secrets
from embeddings_project.start_errors import EXPLAINED, explain

OWN_APPS = ("embeddings_project", "embeddings", "media_jobs", "providers")
# Django's own that operators need; `help --commands` lists all.
USEFUL = {
    "changepassword": "Set a user's password.",
    "createsuperuser": "Make an operator with all rights.",
    "check": "Look for wrong settings; --deploy also for unsafe ones.",
    "migrate": "Bring the database up to date (serve does so at its start).",
}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["version"]):
        sys.stdout.write(f"{layout.NAME} {__version__}\n")
        return
    name = Path(sys.argv[0]).name
    try:
        if only_looks(arguments):
            secrets.keep_nothing()
        elif arguments[:1] in (["serve"], ["runworker"]):
            _prepare_to_write(counts=arguments[0] == "serve")
        CommandLine(
            [layout.NAME if name == "__main__.py" else name, *arguments]
        ).execute()
    except EXPLAINED as error:
        sentence = explain(error)
        if sentence is None or "--traceback" in arguments:
            raise
        sys.exit(f"Error: {sentence}")


def only_looks(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for words alone, or brings its own secrets, so that none may be made."""
    asks = not {"-h", "--help", "--version"}.isdisjoint(arguments)
    return asks or arguments[:1] in ([], ["help"], ["check"], ["restore"])


def _prepare_to_write(*, counts: bool) -> None:
    from embeddings_project.gunicorn import count_in, metrics_dir

    layout.require_writable(settings.DATA_DIR)
    if counts:  # the web server is forked from this process, and prometheus_client is imported with Django
        count_in(metrics_dir / "serve")


class CommandLine(ManagementUtility):
    """Django's, whose overview begins with what this server brings."""

    def main_help_text(self, commands_only: bool = False) -> str:  # noqa: FBT001, FBT002  (Django's signature)
        if (
            commands_only or not apps.ready
        ):  # not ready: a wrong setting, which Django names
            return super().main_help_text(commands_only)
        origins = get_commands()
        own = sorted(name for name, app in origins.items() if app in OWN_APPS)
        lines = [f"Usage: {self.prog_name} COMMAND [options]", "", "Commands:"]
        for command in sorted(own, key=lambda name: name != "serve"):
            what = load_command_class(origins[command], command).help
            lines.append(f"  {command:<16}  {what}")
        lines += [f"  {command:<16}  {what}" for command, what in USEFUL.items()]
        lines += [
            "",
            f"`{self.prog_name} help COMMAND` shows a command's options, `{self.prog_name} help --commands` lists all.",
            f"Data folder: {layout.data_dir(layout.with_env_file(os.environ))}",
        ]
        return "\n".join(lines)


if __name__ == "__main__":
    main()
