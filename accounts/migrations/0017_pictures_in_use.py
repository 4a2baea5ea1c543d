from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # beside whoever works meanwhile
    dependencies = [("accounts", "0016_picture_uploads")]
    operations = [
        # What a run that was interrupted left: it has the name and answers nothing.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS user_picture", migrations.RunSQL.noop),
        AddIndexConcurrently(
            "user", models.Index(models.F("picture"), condition=~models.Q(("picture", "")), name="user_picture")
        ),
    ]
