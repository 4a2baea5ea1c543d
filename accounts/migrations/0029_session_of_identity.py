from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # while the service goes on
    dependencies = [("accounts", "0028_identities")]
    operations = [
        # What a run that was interrupted left: it has the name and answers nothing.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS session_of_identity", migrations.RunSQL.noop),
        AddIndexConcurrently(
            "session",
            models.Index("identity", condition=models.Q(identity__isnull=False), name="session_of_identity"),
        ),
    ]
