"""The limiter's buckets, where the database is PostgreSQL; elsewhere they live in a file of their own."""

from typing import Any

from django.db import migrations

from embeddings.access.limiter.postgres_store import CREATE, DROP


def create(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(CREATE)


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(DROP)


class Migration(migrations.Migration):
    dependencies = [("embeddings", "0002_usage")]

    operations = [migrations.RunPython(create, drop)]
