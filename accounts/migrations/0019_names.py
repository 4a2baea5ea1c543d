from django.db import migrations, models


class Migration(migrations.Migration):
    """Two models get the names that the code says now. Their tables keep theirs, so nothing is done in Postgres."""

    dependencies = [("accounts", "0018_upload_pauses")]

    operations = [
        migrations.AlterModelTable("twostep", "accounts_twostep"),
        migrations.RenameModel("TwoStep", "TotpAuthenticator"),
        migrations.AlterField(
            "totpauthenticator",
            "user",
            models.OneToOneField(
                "accounts.User", models.CASCADE, primary_key=True, related_name="totp", serialize=False
            ),
        ),
        migrations.AlterModelTable("restingusername", "accounts_restingusername"),
        migrations.RenameModel("RestingUsername", "ReservedUsername"),
        migrations.AlterField(
            "reservedusername",
            "user",
            models.ForeignKey(
                "accounts.User", models.SET_NULL, null=True, related_name="reserved_usernames"
            ),
        ),
    ]
