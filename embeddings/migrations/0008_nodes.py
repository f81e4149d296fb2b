"""What each node on a shared database says of itself."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('embeddings', '0007_member_of_requests'),
    ]

    operations = [
        migrations.CreateModel(
            name='Node',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=64, unique=True)),
                ('run', models.CharField(max_length=64)),
                ('host', models.CharField(max_length=255)),
                ('started_at', models.DateTimeField()),
                ('beat_at', models.DateTimeField()),
                ('taken_at', models.DateTimeField(null=True)),
                ('settings', models.JSONField(default=dict)),
                ('prepared', models.JSONField(default=dict)),
            ],
            options={
                'default_permissions': (),
            },
        ),
    ]
