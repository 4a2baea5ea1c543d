from django.db import Error, migrations, models, transaction


def make_trigrams(apps, schema_editor):
    """Its owner may do it since Postgres 13 (pg_trgm is trusted); some hosts still keep it for an administrator."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm')")
        if cursor.fetchone()[0]:
            return
        try:
            with transaction.atomic(using=schema_editor.connection.alias):
                cursor.execute("CREATE EXTENSION pg_trgm")
        except Error as error:
            raise RuntimeError(
                f"Postgres does not let us make its extension pg_trgm, which staff search people with: {error}\n"
                "Install the server's contrib package where it is not there, let an administrator run\n"
                "    CREATE EXTENSION pg_trgm;\n"
                "in this database, and then migrate again."
            ) from error


class Migration(migrations.Migration):
    dependencies = [("accounts", "0011_count_what_is_there")]
    operations = [
        migrations.AlterModelOptions(name="user", options={"permissions": [("export_user", "Can export users")]}),
        migrations.RunPython(make_trigrams, migrations.RunPython.noop),
    ]
