"""The list of end users' days by day; plainer names."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('embeddings', '0005_traffic'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='auditentry',
            options={'ordering': ['-at', '-pk'], 'verbose_name': 'audit entry', 'verbose_name_plural': 'audit entries'},
        ),
        migrations.AlterModelOptions(
            name='enduserday',
            options={'ordering': ['-day', 'caller', 'end_user'], 'verbose_name': 'day of an end user', 'verbose_name_plural': 'days of end users'},
        ),
        migrations.AlterModelOptions(
            name='usagehour',
            options={'ordering': ['-hour', 'caller', 'provider', 'model'], 'verbose_name': 'hour of usage', 'verbose_name_plural': 'hours of usage'},
        ),
        migrations.AddIndex(
            model_name='enduserday',
            index=models.Index(fields=['day'], name='end_user_days_by_day'),
        ),
    ]
