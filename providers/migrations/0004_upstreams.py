from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def name_kinds(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Until now each row was the plug-in of its name."""
    rows = apps.get_model("providers", "ProviderSetting").objects
    rows.update(kind=models.F("name"))


class Migration(migrations.Migration):
    dependencies = [
        ("providers", "0003_canary"),
    ]

    operations = [
        migrations.AddField(
            model_name="providersetting",
            name="kind",
            field=models.CharField(
                default="", help_text="The plug-in that calls it.", max_length=64
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="providersetting",
            name="wire",
            field=models.CharField(
                blank=True,
                default="",
                help_text="How a server of your own speaks: openai, tei or ollama. Empty: the plug-in's default.",
                max_length=32,
            ),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name="providersetting",
            name="base_url",
            field=models.URLField(
                blank=True,
                help_text="Empty: the plug-in's own; for what is built in, from the environment.",
                max_length=500,
            ),
        ),
        migrations.RunPython(name_kinds, migrations.RunPython.noop),
    ]
