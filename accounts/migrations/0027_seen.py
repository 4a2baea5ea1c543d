from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0026_signing_up_by_code")]
    operations = [
        migrations.CreateModel(
            name="Seen",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("times", models.PositiveBigIntegerField()),
            ],
        ),
    ]
