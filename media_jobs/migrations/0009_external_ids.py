"""By which name of its corpus a loaded document is known again."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("media_jobs", "0008_job_history")]

    operations = [
        migrations.CreateModel(
            name="ExternalId",
            fields=[
                (
                    "media",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="external",
                        serialize=False,
                        to="media_jobs.mediaitem",
                    ),
                ),
                (
                    "owner",
                    models.PositiveBigIntegerField(
                        help_text="The user's id, else 0."
                    ),
                ),
                ("name", models.CharField(max_length=500)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("owner", "name"), name="one_document_a_name"
                    )
                ],
            },
        ),
    ]
