"""Documents embedded from the console: on the operator's account, all of them or none, written into the audit log."""

from collections import Counter
from collections.abc import Sequence

from django.contrib import messages
from django.http import HttpRequest

from embeddings.access.caller_lookup import console_caller
from embeddings.access.throttling import ConsoleUse, RateLimited
from embeddings.models import AuditEntry
from embeddings.services.audit import record
from embeddings.services.errors import ServiceError
from media_jobs.services.jobs import JobOptions, Started, start_jobs


def embed_documents(
    request: HttpRequest, media_ids: Sequence[int], wanted: JobOptions
) -> bool:
    """Start the jobs, and say what was started, or why nothing was; return whether the request could be served."""
    caller = console_caller(request.user)
    try:
        ConsoleUse(caller)
        started = start_jobs(caller, media_ids, wanted)
    except ServiceError as error:
        messages.error(request, f"Nothing was started: {error.message}")
        return False
    except RateLimited as error:
        messages.error(request, f"Nothing was started: {error.detail}")
        return False
    for one in started:
        if one.is_new:
            _note(request, one)
    new = sum(one.is_new for one in started)
    if new:
        messages.success(request, f"Started {new} job{'s' if new > 1 else ''}.")
    reasons = Counter(one.message for one in started if not one.is_new)
    for reason, count in reasons.items():
        lead = "Nothing was started" if not new else "Not started"
        messages.info(request, f"{lead} for {count} of {len(started)}: {reason}.")
    return True


def _note(request: HttpRequest, started: Started) -> None:
    job = started.job
    record(
        source=AuditEntry.Source.CONSOLE,
        actor=request.user.get_username(),
        action="embed",
        target=f"media item {job.media}",
        after={
            "job": job.public_id,
            "model": f"{job.embedding_provider}:{job.embedding_model}",
            "chunk_size": job.chunk_size,
            "chunk_overlap": job.chunk_overlap,
        },
    )
