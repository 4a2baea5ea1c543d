from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

# Beside whoever works meanwhile: none of these holds anybody up. One index for all that is searched (the text stands
# once more in services/directory.py); a row of it is written when somebody signs up or changes a name.
SEARCHED = """
CREATE INDEX CONCURRENTLY user_searched ON accounts_user
USING gin (lower(username || ' ' || first_name || ' ' || last_name || ' ' || email) gin_trgm_ops)
"""


def remains(name: str) -> migrations.RunSQL:
    """A run that was interrupted leaves an index that has the name and answers nothing."""
    return migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", migrations.RunSQL.noop)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0012_directory_of_staff")]
    operations = [
        remains("user_staff_ids"),
        AddIndexConcurrently(
            "user", models.Index(models.F("id"), condition=models.Q(("is_staff", True)), name="user_staff_ids")
        ),
        remains("user_inactive_ids"),
        AddIndexConcurrently(
            "user", models.Index(models.F("id"), condition=models.Q(("is_active", False)), name="user_inactive_ids")
        ),
        remains("user_searched"),
        migrations.RunSQL(SEARCHED, "DROP INDEX IF EXISTS user_searched"),
    ]
