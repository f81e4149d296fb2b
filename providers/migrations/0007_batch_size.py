import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('providers', '0006_address_of_providers'),
    ]

    operations = [
        migrations.AddField(
            model_name='providersetting',
            name='batch_size',
            field=models.PositiveIntegerField(blank=True, help_text="Texts in one call of it at most. Empty: as many as the plug-in's service takes.", null=True, validators=[django.core.validators.MinValueValidator(1)]),
        ),
    ]
