"""Whatever way an item's vectors leave a space, the space's version grows: caches of other processes depend on it."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

GROW = "UPDATE media_jobs_vectorspace SET version = version + 1 WHERE id = OLD.space_id;"
EVENTS = {
    "media_jobs_vectors_deleted": "AFTER DELETE ON media_jobs_itemvectors FOR EACH ROW",
    "media_jobs_vectors_moved": (
        "AFTER UPDATE OF space_id ON media_jobs_itemvectors FOR EACH ROW WHEN {moved}"
    ),
}


def create(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "CREATE FUNCTION media_jobs_grow_version() RETURNS trigger LANGUAGE plpgsql"
            f" AS $$ BEGIN {GROW} RETURN NULL; END $$"
        )
    for name, event in EVENTS.items():
        if schema_editor.connection.vendor == "postgresql":
            when = event.format(moved="(OLD.space_id <> NEW.space_id)")
            body = "EXECUTE FUNCTION media_jobs_grow_version()"
        else:
            when = event.format(moved="OLD.space_id <> NEW.space_id")
            body = f"BEGIN {GROW} END"
        schema_editor.execute(f"CREATE TRIGGER {name} {when} {body}")


def drop(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    on_table = ""
    if schema_editor.connection.vendor == "postgresql":
        on_table = " ON media_jobs_itemvectors"
    for name in EVENTS:
        schema_editor.execute(f"DROP TRIGGER {name}{on_table}")
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION media_jobs_grow_version()")


class Migration(migrations.Migration):

    dependencies = [("media_jobs", "0002_stored_vectors")]

    operations = [migrations.RunPython(create, drop)]
