"""The app's settings: one frozen object, built by the project's settings and read here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaConf:
    """The settings of documents and their jobs.

    `workers`: processes that run jobs, 0 for none on this machine. `work_dir`: where unfinished jobs keep their
    vectors. `wait_days`: for how long a job waits for its provider. `max_documents`, `max_stored_bytes` and
    `max_queued_jobs` are each user's quotas, 0 for none. `extractions`: how many files are read at once.
    `search_memory_bytes`: how much a server's processes together may keep of vectors that they search in memory.
    `pgvector_type`: what a new table keeps vectors as; `pgvector_ef_search`: how far its indexes are searched.
    """

    max_bytes: int
    workers: int
    work_dir: Path
    wait_days: float
    max_documents: int
    max_stored_bytes: int
    max_queued_jobs: int
    webhook_secret: str
    webhook_allow_private: bool
    extractions: int = 2
    search_memory_bytes: int = 512 * 2**20
    pgvector_type: str = "halfvec"
    pgvector_ef_search: int = 512
    chunk_size: int = 1000
    chunk_overlap: int = 200


def queue_settings(conf: MediaConf) -> dict[str, Any]:
    """Return django-q2's settings (Q_CLUSTER).

    A call only says that there is work (services/worker_calls.py), so one that is lost, or comes back after `retry`,
    does no harm; `timeout` ends a worker that hangs.
    """
    return {
        "name": "embeddings",
        "label": "Job queue",
        "orm": "default",
        "workers": max(1, conf.workers),
        "queue_limit": 1,
        "bulk": 1,
        "max_attempts": 3,
        "timeout": 3600,
        "retry": 4 * 3600,
        "ack_failures": True,
        "save_limit": -1,
        "scheduler": False,
        "catch_up": False,
        "poll": 0.5,
        "guard_cycle": 1,
        # A worker that has loaded a model is replaced after its task, so that an idle server holds one copy.
        "max_rss": 160_000,
    }


def conf() -> MediaConf:
    """Return the settings in force."""
    return settings.MEDIA_JOBS
