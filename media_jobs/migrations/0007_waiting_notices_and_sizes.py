"""What a job waits for, how its notice fares, and each text's size: before the text, where SQLite reads it sooner."""

from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

SIZES = {
    "sqlite": "UPDATE media_jobs_mediaitem SET text_bytes = length(CAST(content AS BLOB))",
    "postgresql": "UPDATE media_jobs_mediaitem SET text_bytes = octet_length(content)",
}


def put_text_last(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "sqlite":
        # As for any change of a column there: a new table, filled from the old.
        item = apps.get_model("media_jobs", "MediaItem")
        schema_editor._remake_table(item)  # type: ignore[attr-defined]


def measure(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    schema_editor.execute(SIZES[schema_editor.connection.vendor])


class Migration(migrations.Migration):

    dependencies = [
        ("media_jobs", "0006_extraction_warnings"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="waiting_reason",
            field=models.TextField(
                blank=True,
                default="",
                help_text="What a queued job waits for, until it may run again.",
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="waited_seconds",
            field=models.PositiveIntegerField(
                default=0, help_text="Since its last step forward."
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="webhook_host",
            field=models.CharField(blank=True, default="", max_length=255),
        ),
        migrations.AddField(
            model_name="job",
            name="webhook_error",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Why the last try failed.",
                max_length=300,
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(webhook_due_at__isnull=False),
                fields=["webhook_due_at"],
                name="media_jobs_notices",
            ),
        ),
        migrations.AddField(
            model_name="mediaitem",
            name="text_bytes",
            field=models.PositiveBigIntegerField(
                default=0, help_text="Of the text in UTF-8."
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
        migrations.RunPython(measure, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name="mediaitem",
            index=models.Index(
                fields=["owner", "text_bytes"], name="media_jobs_sizes"
            ),
        ),
    ]
