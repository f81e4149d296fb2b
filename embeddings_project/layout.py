"""Where the server's own files lie: in a clone beside manage.py, or installed as a package."""

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from dotenv import dotenv_values

from providers.command import IN_CLONE

NAME = "embeddings-server"
PACKAGE = Path(__file__).resolve().parent
# The clone that this code is run from; None where it is installed as a package.
CLONE = PACKAGE.parent if IN_CLONE else None
TEMPLATES = CLONE / "templates" if CLONE else PACKAGE / "templates"


def with_env_file(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment, and below it what `.env` says: beside manage.py, or installed in the data folder.

    Raises ImproperlyConfigured where there is one that cannot be read.
    """
    file = (CLONE or data_dir(environ)) / ".env"
    try:
        return {**{k: v or "" for k, v in dotenv_values(file).items()}, **environ}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ImproperlyConfigured(f"{file} cannot be read: {reason}.") from error


def data_dir(values: Mapping[str, str]) -> Path:
    """Return where the server keeps what it makes: database, secrets, weights."""
    given = values.get("DATA_DIR", "").strip()
    if given:
        return Path(given).expanduser().absolute()
    return CLONE / "var" if CLONE else _user_data(values) / NAME


def _user_data(values: Mapping[str, str]) -> Path:
    """Return the user's data folder, as the XDG Base Directory Specification and Apple's guide name it."""
    given = Path(values.get("XDG_DATA_HOME", ""))
    if given.is_absolute():  # the specification: ignore others
        return given
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ImproperlyConfigured(
            "DATA_DIR must be set: this user has no home folder."
        ) from error
    apple = sys.platform == "darwin"
    return home / ("Library/Application Support" if apple else ".local/share")


def require_writable(folder: Path) -> None:
    """Make the data folder if need be. Raises ImproperlyConfigured where this user cannot write to it.

    A full disk is no reason to refuse: much is served without writing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return
        raise ImproperlyConfigured(
            f"DATA_DIR must be a folder that this user can write to: {folder}: {error.strerror or error}."
        ) from error
