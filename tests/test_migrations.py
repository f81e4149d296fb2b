"""Migrations stay what they were, whatever becomes of the apps."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

APPS = {"embeddings_project", "embeddings", "media_jobs", "providers"}
MIGRATIONS = sorted(REPOSITORY.glob("*/migrations/0*.py"))


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_migration_imports_nothing_from_the_apps(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            imported.add(node.module)
    assert not {name.partition(".")[0] for name in imported} & APPS
