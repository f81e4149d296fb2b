"""The app's settings: one frozen object, built by the project's settings and read here."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaConf:
    """What the server was told about documents and their jobs.

    `workers`: processes that run jobs, 0 for none on this machine. `worker_name`: tells this installation's apart from
    those of others at the same database. `work_dir`: where unfinished jobs keep their vectors.
    """

    max_bytes: int
    workers: int
    work_dir: Path
    worker_name: str
    webhook_secret: str
    webhook_allow_private: bool
    chunk_size: int = 1000
    chunk_overlap: int = 200


def conf() -> MediaConf:
    """Return the settings in force."""
    return settings.MEDIA_JOBS
