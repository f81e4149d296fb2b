"""Calls for work in django-q2's queue, each answered by whichever worker is free.

A call names no job. The jobs themselves are rows, with their turn, their claim and their attempts; a call that is lost,
or comes twice, changes nothing about them. recovery.py sees to it that no job waits without a call.
"""

from django.utils import timezone

TASK = "media_jobs.tasks.work"


def call_worker() -> None:
    """Ask for a worker."""
    from django_q.tasks import async_task  # loads multiprocessing's queues

    async_task(TASK, save=False, ack_failure=True)


def waiting_calls() -> int:
    """Count the calls that no worker has taken."""
    from django_q.models import OrmQ

    return int(OrmQ.objects.filter(lock__lte=timezone.now()).count())
