from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # while the service goes on
    dependencies = [("accounts", "0025_words")]
    operations = [
        migrations.AlterField(
            model_name="challenge",
            name="kind",
            field=models.CharField(
                choices=[
                    ("confirm_email", "Confirm Email"),
                    ("reset_password", "Reset Password"),
                    ("sign_in", "Sign In"),
                    ("undo_email", "Undo Email"),
                    ("keep_account", "Keep Account"),
                    ("sign_up", "Sign Up"),
                    ("new_device", "New Device"),
                ],
                max_length=14,
            ),
        ),
        # What a run that was interrupted left: it has the name and answers nothing.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS event_signed_up", migrations.RunSQL.noop),
        AddIndexConcurrently(
            "event",
            models.Index("created_at", condition=models.Q(("kind", "user.signed_up")), name="event_signed_up"),
        ),
    ]
