"""Quotas of one user, where they are not the server's."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("embeddings", "0003_limiter_buckets")]

    operations = [
        migrations.AddField(
            model_name="userlimits",
            name="max_documents",
            field=models.PositiveBigIntegerField(
                blank=True, help_text="Media items that may be stored.", null=True
            ),
        ),
        migrations.AddField(
            model_name="userlimits",
            name="max_stored_bytes",
            field=models.PositiveBigIntegerField(
                blank=True, help_text="Of their texts, in UTF-8.", null=True
            ),
        ),
        migrations.AddField(
            model_name="userlimits",
            name="max_queued_jobs",
            field=models.PositiveIntegerField(
                blank=True, help_text="Jobs that may wait or run at once.", null=True
            ),
        ),
    ]
