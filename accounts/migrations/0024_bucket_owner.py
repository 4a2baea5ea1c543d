from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0023_kept_answers")]
    operations = [
        migrations.CreateModel(
            name="BucketOwner",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token", models.CharField(max_length=32, help_text="what the object said before")),
                ("next_token", models.CharField(max_length=32, help_text="what it says, or is about to say")),
                ("server", models.CharField(max_length=60, help_text="the run of Postgres that renewed it last")),
            ],
        ),
    ]
