"""Telling a client's server that its job has ended: signed, repeated, and never into the private network."""

import contextlib
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import threading
import time
from datetime import timedelta
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

import structlog
from django.db.models import F, QuerySet
from django.utils import timezone

from embeddings.services.errors import InvalidRequest
from media_jobs.conf import conf
from media_jobs.models import Job

TIMEOUT_SECONDS = 5.0
AT_ONCE = 5
# Seconds after each failed try; then the notice is given up.
PAUSES = (10, 60, 300, 1800, 7200)

log = structlog.get_logger(__name__)


class Unreachable(Exception):
    """The address cannot, or must not, be called."""


def check_address(url: str) -> None:
    """Raise InvalidRequest for a URL that can never be called."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        sound = sound and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        sound = False
    if not sound or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest(
            "webhook_url must be an http:// or https:// URL without a password.",
            param="webhook_url",
        )


def due_notices() -> QuerySet[Job]:
    """Return the jobs whose notice is due."""
    return Job.objects.filter(webhook_due_at__lte=timezone.now()).order_by(
        "webhook_due_at"
    )


def deliver_due() -> None:
    """Send the notices that are due; those that fail are due again later."""
    for job in due_notices()[:AT_ONCE]:
        tries = job.webhook_attempts
        pause = PAUSES[tries] if tries < len(PAUSES) else None
        again = timezone.now() + timedelta(seconds=pause) if pause else None
        # Taken before it is sent: of two workers one sends, and a kill in between costs a pause, not the notice.
        taken = Job.objects.filter(pk=job.pk, webhook_due_at=job.webhook_due_at).update(
            webhook_due_at=again, webhook_attempts=F("webhook_attempts") + 1
        )
        if taken and _deliver(job):
            Job.objects.filter(pk=job.pk).update(webhook_due_at=None)


def _deliver(job: Job) -> bool:
    try:
        status = _post(urlsplit(job.webhook_url), _body(job))
    except (OSError, HTTPException, Unreachable) as error:
        log.warning("webhook_failed", job_id=job.public_id, reason=str(error)[:200])
        return False
    if not 200 <= status < 300:
        log.warning("webhook_refused", job_id=job.public_id, status=status)
        return False
    return True


def _body(job: Job) -> bytes:
    told = {
        "event": f"media.job.{job.status}",
        "job_id": job.public_id,
        "media_id": job.media_id,
        "status": job.status,
        "error": job.error or None,
        "chunks": job.chunks_total,
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
    }
    return json.dumps(told).encode()


def signature(body: bytes, *, timestamp: int, secret: str) -> str:
    """Return HMAC-SHA256 of `timestamp.body` in hexadecimal."""
    signed = f"{timestamp}.".encode() + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _post(url: SplitResult, body: bytes) -> int:
    """Send `body` and return the status. Redirects are not followed."""
    now = int(time.time())
    signed = signature(body, timestamp=now, secret=conf().webhook_secret)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "embeddings-server",
        "X-Embeddings-Signature": f"t={now},v1={signed}",
    }
    connection = _connection(url)
    # The timeout counts for each read; one byte at a time would hold the worker for hours.
    too_late = threading.Event()
    whole = threading.Timer(2 * TIMEOUT_SECONDS, _cut_off, [connection, too_late])
    whole.start()
    try:
        path = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
        connection.request("POST", path, body=body, headers=headers)
        status = connection.getresponse().status
    finally:
        whole.cancel()
        connection.close()
    if too_late.is_set():  # what had come until then may look like an answer
        raise Unreachable("The answer took too long.")
    return status


def _cut_off(connection: HTTPConnection, too_late: threading.Event) -> None:
    too_late.set()
    with contextlib.suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def _connection(url: SplitResult) -> HTTPConnection:
    """Connect to an address that was looked up and checked, so that no second look-up can give another one."""
    host = url.hostname or ""
    port = url.port or (443 if url.scheme == "https" else 80)
    connection: Any
    if url.scheme == "https":
        context = ssl.create_default_context()
        connection = HTTPSConnection(
            host, port, timeout=TIMEOUT_SECONDS, context=context
        )
    else:
        connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    address = _allowed_address(host, port)
    # The name stays for the Host header and the certificate.
    connection._create_connection = lambda _, timeout, source: socket.create_connection(
        (address, port), timeout, source
    )
    return connection  # type: ignore[no-any-return]


def _allowed_address(host: str, port: int) -> str:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not conf().webhook_allow_private:
        for address in addresses:
            if not is_public(address):
                raise Unreachable("The address lies in a private network.")
    return addresses[0]


def is_public(address: str) -> bool:
    """Tell whether an IP address lies on the public internet."""
    given = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(given, ipaddress.IPv6Address):
        inner = given.ipv4_mapped or given.sixtofour
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        # NAT64 leads to IPv4 addresses, private ones included.
        if given in ipaddress.ip_network("64:ff9b::/96"):
            return False
    return given.is_global and not given.is_multicast
