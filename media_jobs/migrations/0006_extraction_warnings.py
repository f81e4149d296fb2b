"""What of a file is not in its text. The column comes before the text, where SQLite reads it sooner."""

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def put_text_last(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "sqlite":
        # As for any change of a column there: a new table, filled from the old.
        item = apps.get_model("media_jobs", "MediaItem")
        schema_editor._remake_table(item)  # type: ignore[attr-defined]


class Migration(migrations.Migration):

    dependencies = [("media_jobs", "0005_embedded_revision")]

    operations = [
        migrations.AddField(
            model_name="mediaitem",
            name="warnings",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="What of the file is not in the text.",
            ),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name="mediaitem", name="content"),
                migrations.AddField(
                    model_name="mediaitem", name="content", field=models.TextField()
                ),
            ]
        ),
        migrations.RunPython(put_text_last, migrations.RunPython.noop),
    ]
