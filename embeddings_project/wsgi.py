"""The WSGI application. A failed system check stops the worker, so that an unsafe set-up never serves."""

import os

import django
from django.core.checks import ERROR, run_checks
from django.core.management.base import SystemCheckError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")

django.setup()

from django.conf import settings  # noqa: E402  (after the set-up)

from embeddings.fast_path.handler import FastHandler  # noqa: E402
from embeddings_project.site import below_prefix  # noqa: E402
from providers.state.database import waits  # noqa: E402

waits.serve(settings.DATABASE_TIMEOUT_SECONDS)
application = below_prefix(FastHandler(), settings.FORCE_SCRIPT_NAME)

problems = [
    message
    for message in run_checks()
    if message.is_serious(ERROR) and not message.is_silenced()
]
if problems:
    raise SystemCheckError("\n".join(str(problem) for problem in problems))
