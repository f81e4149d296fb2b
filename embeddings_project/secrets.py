"""Secrets that the server makes at its first start and keeps in the data folder, readable by its owner only."""

import base64
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_kept = True


def keep_nothing() -> None:
    """From now on make up a secret that is missing, and write nothing: for commands that only look."""
    global _kept
    _kept = False


def url_safe_secret() -> str:
    """Return 32 random bytes for headers and URLs."""
    return secrets.token_urlsafe(32)


def base64_secret() -> str:
    """Return 32 random bytes in plain base64, as Standard Webhooks has its secrets."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def read_or_create_secret(
    path: Path, *, prefix: str = "", make: Callable[[], str] = url_safe_secret
) -> str:
    """Return the secret kept at `path`; make one first if there is none. Safe when several processes start at once.

    Raises ImproperlyConfigured where the folder cannot hold it.
    """
    try:
        if not path.exists():
            fresh = prefix + make()
            if not _kept:
                return fresh
            _publish(path, fresh)
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"DATA_DIR must be a folder that this user can write to: {path}: {error.strerror or error}."
        ) from error


def _publish(path: Path, value: str) -> None:
    """Write `value` to a private file and link it into place: the first to link wins, and nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)  # created with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was first; its secret counts
    finally:
        Path(temporary).unlink()
