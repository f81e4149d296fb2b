"""Telling a client's server that its job has ended: signed, repeated, and never into the private network.

The headers are those of Standard Webhooks (standardwebhooks.com), and X-Embeddings-Signature, which was there before.
"""

import base64
import hashlib
import hmac
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import reduce
from operator import or_
from urllib.parse import urlsplit

import httpx2
import orjson
import structlog
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from embeddings.services.errors import InvalidRequest
from media_jobs.conf import conf
from media_jobs.models import Job
from media_jobs.services.webhook_addresses import allowed_addresses
from providers.exceptions import ProviderError
from providers.remote.client import HttpClient
from providers.remote.deadline import Deadline

# For the whole of one try, from the look-up of the name to the answer's status.
TIMEOUT_SECONDS = 10.0
# Seconds after each failed try; then the notice is given up.
PAUSES = (10, 60, 300, 1800, 7200, 18_000, 36_000)
PAUSE_SPREAD = 0.1
# A notice that is due by so much later than its pause was put off before the clock was set back.
SLACK_SECONDS = 300
GONE = 410  # the receiver wants no more
CANDIDATES = 100
SECRET_PREFIX = "whsec_"  # noqa: S105 -- says what follows

log = structlog.get_logger(__name__)


def check_address(url: str) -> None:
    """Raise InvalidRequest for a URL that can never be called."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        sound = sound and parts.port != 0 and "@" not in parts.netloc
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        sound = False
    if not sound or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest(
            "webhook_url must be an http:// or https:// URL without a password.",
            param="webhook_url",
        )


def host_of(url: str) -> str:
    """Return the host that a URL names, of which one notice at a time is sent to."""
    return (urlsplit(url).hostname or "")[:255]


def key_of(secret: str) -> bytes:
    """Return the key that a secret stands for: what base64 says after `whsec_`, else the text itself.

    Raises ValueError for what is no base64.
    """
    if secret.startswith(SECRET_PREFIX):
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    return secret.encode()


def due_notices() -> QuerySet[Job]:
    """Return the jobs whose notice is due."""
    now = timezone.now()
    put_off = [
        Q(webhook_attempts=tries, webhook_due_at__gt=now + _longest_pause(tries))
        for tries in range(len(PAUSES) + 1)
    ]
    due = reduce(or_, put_off, Q(webhook_due_at__lte=now))
    return Job.objects.filter(due, webhook_due_at__isnull=False).order_by(
        "webhook_due_at"
    )


def take_due(
    most: int,
    *,
    but_hosts: Collection[str] = (),
    owners: Mapping[int | None, int] | None = None,
    per_owner: int = CANDIDATES,
) -> list[Job]:
    """Take notices that are due, at most one of a host and none of those that are named. They are due again later.

    `owners`: how many each user has under way, `per_owner` at most. Taken before they are sent: of two senders one
    sends, and a kill in between costs a pause, not the notice.
    """
    held = Counter(owners or {})
    full = [owner for owner, number in held.items() if number >= per_owner]
    found = due_notices().exclude(webhook_host__in=but_hosts).exclude(owner_id__in=full)
    taken: dict[str, Job] = {}
    for job in found[:CANDIDATES] if most > 0 else ():
        if job.webhook_host in taken or held[job.owner_id] >= per_owner:
            continue
        if _take(job):
            taken[job.webhook_host] = job
            held[job.owner_id] += job.owner_id is not None
        if len(taken) >= most:
            break
    return list(taken.values())


def deliver(job: Job) -> None:
    """Send a notice that was taken, and note how that ended."""
    reason, lasting = _send(job)
    mine = Job.objects.filter(pk=job.pk, webhook_attempts=job.webhook_attempts + 1)
    if not reason:
        mine.update(webhook_due_at=None, webhook_error="")
        return
    log.warning("webhook_failed", job_id=job.public_id, reason=reason)
    mine.update(
        webhook_error=reason[:300], **({"webhook_due_at": None} if lasting else {})
    )


def headers_of(job: Job, body: bytes, *, timestamp: int, secret: str) -> dict[str, str]:
    """Return the headers of one try. The id is the same in every try."""
    signed = f"{job.public_id}.{timestamp}.".encode() + body
    mac = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": job.public_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
        "x-embeddings-signature": (
            f"t={timestamp},v1={signature(body, timestamp=timestamp, secret=secret)}"
        ),
    }


def signature(body: bytes, *, timestamp: int, secret: str) -> str:
    """Return HMAC-SHA256 of `timestamp.body` in hexadecimal, with the text of the secret as the key."""
    signed = f"{timestamp}.".encode() + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _take(job: Job) -> bool:
    tries = job.webhook_attempts
    again = None
    if tries < len(PAUSES):
        spread = 1 + random.uniform(0, PAUSE_SPREAD)  # noqa: S311 -- no secret
        again = timezone.now() + timedelta(seconds=PAUSES[tries] * spread)
    same = Job.objects.filter(pk=job.pk, webhook_due_at=job.webhook_due_at)
    return bool(
        same.update(webhook_due_at=again, webhook_attempts=F("webhook_attempts") + 1)
    )


def _longest_pause(tries: int) -> timedelta:
    """Return how far ahead a notice that was tried so often can be due."""
    pause = PAUSES[tries - 1] * (1 + PAUSE_SPREAD) if tries else 0
    return timedelta(seconds=pause + SLACK_SECONDS)


def _send(job: Job) -> tuple[str, bool]:
    """Return why the notice was not taken, empty if it was, and whether that is for good."""
    body, timestamp = _body(job), int(time.time())
    secret = conf().webhook_secret
    client = HttpClient("the webhook's server", addresses=allowed_addresses)
    try:
        reply = client.post(
            job.webhook_url,
            headers=headers_of(job, body, timestamp=timestamp, secret=secret),
            content=body,
            deadline=Deadline.after(TIMEOUT_SECONDS, time.monotonic),
            max_bytes=None,
        )
    except ProviderError as error:
        return error.message, False
    finally:
        client.close()
    if 200 <= reply.status < 300:
        return "", False
    return f"The webhook's server answered {reply.status}.", reply.status == GONE


def _body(job: Job) -> bytes:
    event = f"media.job.{job.status}"
    finished = job.finished_at.isoformat() if job.finished_at else None
    return orjson.dumps(
        {
            "type": event,
            "timestamp": finished,
            "event": event,
            "job_id": job.public_id,
            "media_id": job.media_id,
            "status": job.status,
            "error": job.error or None,
            "chunks": job.chunks_total,
            "finished_at": finished,
        }
    )
