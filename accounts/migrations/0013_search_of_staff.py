from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

# Beside whoever works meanwhile: none of these holds anybody up. One index for all that is searched (the text stands
# once more in services/directory.py); a row of it is written when somebody signs up or changes a name.
SEARCHED = """
CREATE INDEX CONCURRENTLY IF NOT EXISTS user_searched ON accounts_user
USING gin (lower(username || ' ' || first_name || ' ' || last_name || ' ' || email) gin_trgm_ops)
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0012_directory_of_staff")]
    operations = [
        AddIndexConcurrently(
            "user", models.Index(models.F("id"), condition=models.Q(("is_staff", True)), name="user_staff_ids")
        ),
        AddIndexConcurrently(
            "user", models.Index(models.F("id"), condition=models.Q(("is_active", False)), name="user_inactive_ids")
        ),
        migrations.RunSQL(SEARCHED, "DROP INDEX IF EXISTS user_searched"),
    ]
