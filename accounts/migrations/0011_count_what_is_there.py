from django.db import migrations

# One statement sees the rows and what the triggers have counted of them at the same moment and adds what is missing;
# whoever writes meanwhile is not held up, and counts for itself.
USERS = """
INSERT INTO accounts_usercount (gender, is_active, email_verified, count)
SELECT gender, is_active, email_verified, sum(n) FROM (
    SELECT gender, is_active, email_verified, count(*) AS n FROM accounts_user GROUP BY 1, 2, 3
    UNION ALL SELECT gender, is_active, email_verified, -count FROM accounts_usercount
) AS missing GROUP BY 1, 2, 3 HAVING sum(n) <> 0
"""
EVENTS = """
INSERT INTO accounts_eventcount (day, kind, count)
SELECT day, kind, sum(n) FROM (
    SELECT (created_at AT TIME ZONE 'UTC')::date AS day, kind, count(*) AS n FROM accounts_event GROUP BY 1, 2
    UNION ALL SELECT day, kind, -count FROM accounts_eventcount
) AS missing GROUP BY 1, 2 HAVING sum(n) <> 0
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0010_counts")]
    operations = [
        migrations.RunSQL(USERS, migrations.RunSQL.noop),
        migrations.RunSQL(EVENTS, migrations.RunSQL.noop),
    ]
