"""Migrations stay what they were, whatever becomes of the apps."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

APPS = {"embeddings_project", "embeddings", "media_jobs", "providers"}
MIGRATIONS = sorted(REPOSITORY.glob("*/migrations/0*.py"))


def imported_apps(code):
    """Return what a migration imports of the apps; a relative import is its own app's."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return {name for name in found if name.partition(".")[0] in {"", *APPS}}


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_migration_imports_nothing_from_the_apps(path):
    assert imported_apps(path.read_text()) == set()


@pytest.mark.parametrize(
    "line",
    [
        "import providers.models",
        "from embeddings.conf import conf",
        "from . import other",
        "from .. import models",
        "from ..models import Job",
    ],
)
def test_every_way_to_import_from_an_app_is_noticed(line):
    assert imported_apps(f"from django.db import models\n{line}\n")
