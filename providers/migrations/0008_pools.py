from typing import Any

from django.db import migrations, models


def forget_members(apps: Any, schema_editor: Any) -> None:
    """Delete what was found of members of pools: without `pool` they would be second rows of their spaces."""
    apps.get_model('providers', 'RemoteSpace').objects.exclude(pool='').delete()


class Migration(migrations.Migration):

    dependencies = [
        ('providers', '0007_batch_size'),
    ]

    operations = [
        migrations.AddField(
            model_name='providersetting',
            name='pool',
            field=models.SlugField(blank=True, help_text='The provider in whose place this one serves, too, as long as it gives the same vectors.', max_length=64),
        ),
        migrations.AddField(
            model_name='providersetting',
            name='pool_models',
            field=models.JSONField(blank=True, default=dict, help_text='Where it calls them otherwise: {"text-embedding-3-small": "our-deployment"}.', verbose_name="names of the pool's models"),
        ),
        migrations.RemoveConstraint(
            model_name='remotespace',
            name='one_row_a_space',
        ),
        migrations.AddField(
            model_name='remotespace',
            name='pool',
            field=models.SlugField(blank=True, max_length=64),
        ),
        migrations.AddConstraint(
            model_name='remotespace',
            constraint=models.UniqueConstraint(fields=('provider', 'model', 'address', 'pool'), name='one_row_a_space'),
        ),
        migrations.RunPython(migrations.RunPython.noop, forget_members),
    ]
