"""How a job's attempts ended, for its page in the console."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("media_jobs", "0007_waiting_notices_and_sizes")]

    operations = [
        migrations.AddField(
            model_name="job",
            name="claimed_at",
            field=models.DateTimeField(
                blank=True, help_text="When its last attempt began.", null=True
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="history",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="How its last attempts ended, oldest first.",
            ),
        ),
    ]
