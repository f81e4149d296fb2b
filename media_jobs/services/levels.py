"""What Prometheus is told of the queue of jobs: the same on all nodes that share a database."""

from django.db.models import Min
from django.db.models.functions import Greatest
from django.utils import timezone
from prometheus_client import Gauge

from media_jobs.models import Job
from media_jobs.services.claims import due_jobs

due = Gauge(
    "media_jobs_due",
    "Jobs that may run now and wait for a worker; the same on all nodes.",
    multiprocess_mode="mostrecent",
)
oldest = Gauge(
    "media_jobs_oldest_due_seconds",
    "How long the job has waited that could have begun first; 0 if none waits.",
    multiprocess_mode="mostrecent",
)
under_way = Gauge(
    "media_jobs_running",
    "Jobs that workers are at; the same on all nodes.",
    multiprocess_mode="mostrecent",
)


def show_queue() -> None:
    """Have the metrics show how many jobs wait, and for how long. Raises DatabaseError."""
    waiting = due_jobs().order_by()
    since = waiting.aggregate(since=Min(Greatest("created_at", "not_before")))["since"]
    due.set(waiting.count())
    waited = (timezone.now() - since).total_seconds() if since else 0.0
    oldest.set(max(waited, 0.0))
    under_way.set(Job.objects.filter(status=Job.Status.PROCESSING).count())
