from django.db import migrations, models

# Django makes each of these beside the index that answers the same questions. They are 99 of 644 MB at a million
# people, and every sign-up writes them. Where the database compares text byte by byte (docker-compose.yml), the other
# index also finds names by their beginning; elsewhere staff's search still needs the two of names that it looks for.
REDUNDANT = """
SELECT c.relname FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
JOIN pg_database d ON d.datname = current_database()
WHERE i.indrelid = 'accounts_user'::regclass AND c.relname LIKE '%\\_like'
    AND (a.attname = 'username_skeleton'
        OR a.attname IN ('username', 'email')
        AND (d.datcollate IN ('C', 'POSIX') OR to_jsonb(d) ->> 'datlocprovider' = 'b'))
"""


def drop_redundant(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(REDUNDANT)
        for (name,) in cursor.fetchall():
            # Beside whoever works meanwhile; a run that was interrupted is finished by the next.
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(name)}")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0020_requests_are_claimed")]
    operations = [
        migrations.RunPython(drop_redundant, migrations.RunPython.noop),
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
                    ("new_device", "New Device"),
                ],
                max_length=14,
            ),
        ),
    ]
