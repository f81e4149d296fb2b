#!/usr/bin/env python
"""Run the project's management commands."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")
    try:
        if sys.argv[1:2] == ["serve"]:
            from embeddings_project.gunicorn import count_in, metrics_dir

            # The web server is forked from this process, and prometheus_client is imported with Django.
            count_in(metrics_dir / "serve")
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Error: {error}")  # the operator's to mend; a traceback would bury it
