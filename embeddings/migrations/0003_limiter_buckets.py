"""The limiter's buckets, where the database is PostgreSQL; elsewhere they live in a file of their own."""

from typing import Any

from django.db import migrations

# Not logged: after a crash of the database all buckets are full, and each move saves a write-ahead record.
CREATE = "CREATE UNLOGGED TABLE embeddings_bucket (key text PRIMARY KEY, full_at bigint NOT NULL)"
DROP = "DROP TABLE embeddings_bucket"


def create(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(CREATE)


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(DROP)


class Migration(migrations.Migration):
    dependencies = [("embeddings", "0002_usage")]

    operations = [migrations.RunPython(create, drop)]
