"""The version is in one place, and all that names it agrees; tests/e2e/test_package.py compares the wheel."""

import re
import subprocess
import sys
from pathlib import Path

from embeddings_project import __version__

REPOSITORY = Path(__file__).parents[2]


def test_command_line_prints_the_version():
    done = subprocess.run(
        [sys.executable, "manage.py", "--version"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"embeddings-server {__version__}\n"


def test_openapi_names_the_version(client):
    assert client.get("/openapi.json").json()["info"]["version"] == __version__


def test_changelog_s_latest_release_is_this_version():
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    released = re.findall(r"^## (\d\S*) - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert released[0] == __version__
