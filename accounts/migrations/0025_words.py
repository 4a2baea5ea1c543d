# Words for people in the admin. No statement: only what Django remembers of the models changes.
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0024_bucket_owner"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="apiuse",
            options={"verbose_name": "use of the API", "verbose_name_plural": "use of the API"},
        ),
        migrations.AlterModelOptions(
            name="event",
            options={"verbose_name": "event", "verbose_name_plural": "events"},
        ),
        migrations.AlterModelOptions(
            name="mailowner",
            options={"verbose_name": "email", "verbose_name_plural": "emails"},
        ),
        migrations.AlterModelOptions(
            name="session",
            options={"verbose_name": "device", "verbose_name_plural": "devices"},
        ),
        migrations.AlterModelOptions(
            name="tombstone",
            options={"verbose_name": "erased account", "verbose_name_plural": "erased accounts"},
        ),
        migrations.AlterModelOptions(
            name="user",
            options={
                "permissions": [("export_user", "Can export users")],
                "verbose_name": "user",
                "verbose_name_plural": "users",
            },
        ),
        migrations.AlterField(
            model_name="apiuse",
            name="app_version",
            field=models.CharField(blank=True, max_length=32, verbose_name="app version"),
        ),
        migrations.AlterField(
            model_name="apiuse",
            name="calls",
            field=models.PositiveBigIntegerField(verbose_name="calls"),
        ),
        migrations.AlterField(
            model_name="apiuse",
            name="day",
            field=models.DateField(verbose_name="day"),
        ),
        migrations.AlterField(
            model_name="apiuse",
            name="version",
            field=models.CharField(max_length=10, verbose_name="API version"),
        ),
        migrations.AlterField(
            model_name="event",
            name="created_at",
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name="time"),
        ),
        migrations.AlterField(
            model_name="event",
            name="data",
            field=models.JSONField(default=dict, verbose_name="details"),
        ),
        migrations.AlterField(
            model_name="event",
            name="device",
            field=models.CharField(blank=True, max_length=200, verbose_name="device"),
        ),
        migrations.AlterField(
            model_name="event",
            name="ip",
            field=models.GenericIPAddressField(null=True, verbose_name="IP address"),
        ),
        migrations.AlterField(
            model_name="event",
            name="kind",
            field=models.CharField(max_length=40, verbose_name="code"),
        ),
        migrations.AlterField(
            model_name="event",
            name="user",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="events",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
        migrations.AlterField(
            model_name="session",
            name="app_version",
            field=models.CharField(blank=True, max_length=50, verbose_name="app version"),
        ),
        migrations.AlterField(
            model_name="session",
            name="authenticated_at",
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name="session",
            name="authenticated_by",
            field=models.CharField(db_default="pwd", default="pwd", max_length=40),
        ),
        migrations.AlterField(
            model_name="session",
            name="created_at",
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name="signed in"),
        ),
        migrations.AlterField(
            model_name="session",
            name="ended_at",
            field=models.DateTimeField(null=True, verbose_name="signed out"),
        ),
        migrations.AlterField(
            model_name="session",
            name="expires_at",
            field=models.DateTimeField(verbose_name="expires"),
        ),
        migrations.AlterField(
            model_name="session",
            name="ip",
            field=models.GenericIPAddressField(null=True, verbose_name="IP address"),
        ),
        migrations.AlterField(
            model_name="session",
            name="kind",
            field=models.CharField(choices=[("browser", "Browser"), ("app", "App")], max_length=7, verbose_name="kind"),
        ),
        migrations.AlterField(
            model_name="session",
            name="last_used_at",
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name="last used"),
        ),
        migrations.AlterField(
            model_name="session",
            name="name",
            field=models.CharField(blank=True, max_length=100, verbose_name="name"),
        ),
        migrations.AlterField(
            model_name="session",
            name="platform",
            field=models.CharField(blank=True, max_length=50, verbose_name="platform"),
        ),
        migrations.AlterField(
            model_name="session",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="sessions",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
        migrations.AlterField(
            model_name="tombstone",
            name="erased_on",
            field=models.DateField(verbose_name="erased on"),
        ),
        migrations.AlterField(
            model_name="user",
            name="created_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="signed up"),
        ),
        migrations.AlterField(
            model_name="user",
            name="deletes_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="erased after"),
        ),
        migrations.AlterField(
            model_name="user",
            name="language",
            field=models.CharField(blank=True, db_default="", default="", max_length=10, verbose_name="language"),
        ),
        migrations.AlterField(
            model_name="user",
            name="time_zone",
            field=models.CharField(blank=True, db_default="", default="", max_length=64, verbose_name="time zone"),
        ),
        migrations.AlterField(
            model_name="user",
            name="updated_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="last changed"),
        ),
    ]
