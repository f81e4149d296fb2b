"""The WSGI application. A failed system check stops the worker, so that an unsafe set-up never serves."""

import os

from django.core.checks import ERROR, run_checks
from django.core.management.base import SystemCheckError
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")

application = get_wsgi_application()

problems = [
    message
    for message in run_checks()
    if message.is_serious(ERROR) and not message.is_silenced()
]
if problems:
    raise SystemCheckError("\n".join(str(problem) for problem in problems))
