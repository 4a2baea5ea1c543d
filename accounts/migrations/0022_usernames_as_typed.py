from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0021_fewer_indexes")]
    operations = [
        migrations.AddField(
            model_name="user",
            name="username_typed",
            field=models.CharField(
                blank=True, db_default="", default="", editable=False, help_text="empty: shown folded", max_length=30
            ),
        ),
    ]
