from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0029_session_of_identity")]
    operations = [
        migrations.AddField(
            model_name="challenge",
            name="ticket",
            field=models.UUIDField(help_text="of the browser that signs up by code: only it may guess", null=True),
        ),
    ]
