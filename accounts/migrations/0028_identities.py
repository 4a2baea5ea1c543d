import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0027_seen")]
    operations = [
        migrations.CreateModel(
            name="Identity",
            fields=[
                (
                    "id",
                    models.UUIDField(default=accounts.models.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "provider",
                    models.CharField(help_text="its name in PROVIDERS", max_length=32, verbose_name="provider"),
                ),
                ("issuer", models.CharField(max_length=255, verbose_name="issuer")),
                ("subject", models.CharField(max_length=255, verbose_name="subject")),
                ("email", models.CharField(blank=True, max_length=254, verbose_name="email address")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="connected")),
                ("last_used_at", models.DateTimeField(null=True, verbose_name="last used")),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="identities",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "sign-in provider",
                "verbose_name_plural": "sign-in providers",
                "constraints": [models.UniqueConstraint(fields=("issuer", "subject"), name="identity_once")],
            },
        ),
        # A new column without a value, so that Postgres neither writes the table anew nor reads it for the foreign key.
        migrations.AddField(
            model_name="session",
            name="identity",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="sessions",
                to="accounts.identity",
            ),
        ),
    ]
