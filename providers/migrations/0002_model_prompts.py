from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("providers", "0001_registry_and_breakers"),
    ]

    operations = [
        migrations.AddField(
            model_name="modelentry",
            name="query_prompt",
            field=models.TextField(blank=True, max_length=2000, null=True),
        ),
        migrations.AddField(
            model_name="modelentry",
            name="document_prompt",
            field=models.TextField(blank=True, max_length=2000, null=True),
        ),
    ]
