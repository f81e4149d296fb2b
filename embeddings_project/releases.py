"""Whether a database's tables are those of this release."""

from collections.abc import Iterable

from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader


def is_older(using: str) -> bool:
    """Whether migrations of this release were not applied there."""
    executor = MigrationExecutor(connections[using])
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def is_newer(applied: Iterable[tuple[str, str]]) -> bool:
    """Whether a newer release applied one of these migrations, each named by its app and its own name."""
    loader = MigrationLoader(None)
    return any(
        app in loader.migrated_apps and (app, name) not in loader.disk_migrations
        for app, name in applied
    )
