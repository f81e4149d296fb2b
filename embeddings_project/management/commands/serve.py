"""Prepare everything and serve."""

import os
import secrets
import signal
import socket
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from embeddings.conf import DEFAULT_LOCAL_MODEL
from embeddings.management.progress_bar import progress_bar
from embeddings.services.catalog import DEFAULT_PROVIDER, unknown_names
from embeddings.services.errors import ServiceError
from embeddings.services.preparation import prepare_local_model
from embeddings_project.processes import start_process
from embeddings_project.reload import (
    ONLY_PREPARE,
    OPTION,
    Inherited,
    bound_socket,
)
from embeddings_project.start_errors import EXPLAINED, explain
from embeddings_project.together import Together
from providers.command import COMMAND
from providers.engine import devices
from providers.seeding import seed_registry
from providers.state.alone import alone

WILDCARDS = ("0.0.0.0", "::", "127.0.0.1", "::1")  # noqa: S104  (compared with, not bound)


class Command(BaseCommand):
    # What the operator set. The others look at the code, and take a quarter of a second.
    requires_system_checks = ("embeddings",)
    help = "Migrate, make the first secrets, prepare the local model, and serve with gunicorn until Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--skip-prepare",
            action="store_true",
            help="Do not fetch the local model (remote providers only).",
        )
        parser.add_argument(ONLY_PREPARE, action="store_true", help=SUPPRESS)
        parser.add_argument(OPTION, type=Inherited.read, help=SUPPRESS)

    def handle(
        self,
        *,
        skip_prepare: bool,
        only_prepare: bool,
        inherited: Inherited | None,
        **options: Any,
    ) -> None:
        self._count_in_files()
        os.umask(0o077)  # what the server writes is its owner's alone
        connections.close_all()  # none is shared over a fork
        if only_prepare:
            self._or_exit(lambda: self._prepare(local_model=not skip_prepare))
            return
        if inherited:
            listener = socket.socket(fileno=inherited.listener)
            listener.set_inheritable(False)
        else:
            listener = self._claim_port()
            self._apart(lambda: self._begin(local_model=not skip_prepare))
        sys.exit(Together(listener, inherited=inherited).run())

    def _count_in_files(self) -> None:
        """Begin again by way of `main`, if Django started us: prometheus_client chose when it was imported."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ and sys.argv[1:2] == ["serve"]:
            module = [sys.executable, "-m", "embeddings_project"]
            os.execv(sys.executable, [*module, *sys.argv[1:]])  # noqa: S606

    def _apart(self, work: Callable[[], None]) -> None:
        """Do `work` in a process of its own: what it loads is no burden to those that serve."""
        process = start_process(lambda: self._or_exit(work))
        try:
            process.join()
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)  # and with this process ends the other
        if code := process.exitcode:
            sys.exit(code if code > 0 else 128 - code)

    def _or_exit(self, work: Callable[[], object]) -> None:
        try:
            work()
        except CommandError as error:
            self.stderr.write(f"CommandError: {error}")
            sys.exit(error.returncode)
        except EXPLAINED as error:
            if (sentence := explain(error)) is None:
                raise
            self.stderr.write(f"Error: {sentence}")
            sys.exit(1)

    def _begin(self, *, local_model: bool) -> None:
        login = self._prepare(local_model=local_model)
        self._greet(login)

    def _prepare(self, *, local_model: bool) -> str | None:
        """Return the password of the console's first login, if it was made now."""
        with alone("prepare"):
            call_command("migrate", interactive=False, verbosity=0)
            seed_registry(
                allowed_providers=settings.ALLOWED_EMBEDDING_PROVIDERS,
                allowed_models=settings.ALLOWED_EMBEDDING_MODELS,
            )
            self._check_names()
            login = self._first_login()
        if local_model:
            self._prepare_model()
        return login

    def _check_names(self) -> None:
        """Refuse a default provider that is none: no model without a prefix could be served. Warn of the rest."""
        for variable, sentence in unknown_names():
            if variable == DEFAULT_PROVIDER:
                raise CommandError(
                    f"{sentence} Name one that is there; the console can add others."
                )
            self.stderr.write(f"Warning: {sentence} The console can add it.")

    def _claim_port(self) -> socket.socket:
        """Fail now, with a plain sentence, rather than later in gunicorn's retries."""
        try:
            return bound_socket(settings.HOST, settings.PORT)
        except OSError as error:
            raise CommandError(
                f"Cannot serve at {settings.HOST} port {settings.PORT}: {error.strerror or error}."
                " Set HOST and PORT to an address that is free here."
            ) from error

    def _prepare_model(self) -> None:
        try:
            with progress_bar(DEFAULT_LOCAL_MODEL) as watch:
                model = prepare_local_model(watch)
        except ServiceError as error:
            raise CommandError(
                f"The local model could not be prepared: {error.message}"
            ) from error
        self.stdout.write(f"Local model ready: {model}")

    def _first_login(self) -> str | None:
        """Make the console's first login if it has none, and return its password."""
        users = get_user_model()._default_manager
        if users.filter(is_superuser=True).exists():
            return None
        password = secrets.token_urlsafe(12)
        users.create_superuser("admin", password=password)
        return password

    def _greet(self, login: str | None) -> None:
        host = "localhost" if settings.HOST in WILDCARDS else settings.HOST
        base = settings.PUBLIC_URL or f"http://{host}:{settings.PORT}"
        lines = [
            f"API      {base}/api/v1",
            f"Docs     {base}/docs",
            f"Console  {base}/admin/",
            f"Data     {settings.DATA_DIR}",
            f"Models   on {devices.named(settings.LOCAL_ENGINE['device'])}",
        ]
        if login:
            lines.append(
                f"Login    admin / {login}   (shown once; change it with {COMMAND} changepassword admin)"
            )
        if settings.MULTI_USER:
            lines.append(f"API keys {COMMAND} create_api_key USERNAME")
        elif settings.API_KEY_WAS_MADE:
            lines.append(
                f"API key  {settings.EMBEDDINGS.single_user_api_key}   (kept in {settings.GENERATED_API_KEY_FILE})"
            )
        elif settings.API_KEY_IS_GENERATED:
            lines.append(f"API key  in {settings.GENERATED_API_KEY_FILE}")
        self.stdout.write("\n" + "\n".join(lines) + "\n")
