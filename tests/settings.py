"""The real settings with small numbers where tests would only wait. Servers come from the environment, which
`make test` fills (project/devstack); the values here let tools import the settings without any."""

import os

for _name, _value in {
    "SECRET_KEY": "only-for-tests-only-for-tests-only-for-tests-only-for-tests",
    "PUBLIC_URL": "http://testserver",
    "ALLOWED_HOSTS": "testserver,127.0.0.1,localhost",
    "DATABASE_URL": "postgres://nobody:none@127.0.0.1:9/none",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "EMAIL_URL": "smtp://127.0.0.1:9",
    "S3_ACCESS_KEY_ID": "none",
    "S3_SECRET_ACCESS_KEY": "none",
    "S3_ENDPOINT_URL": "http://127.0.0.1:9",
    # A hash of 1 MiB: the tests make thousands.
    "ARGON2_MEMORY_KIB": "1024",
    "ARGON2_TIME_COST": "1",
    "EMAIL_TIMEOUT": "2",
    "SWEEP_INTERVAL": "1",
}.items():
    os.environ.setdefault(_name, _value)

from project.settings import *  # noqa: E402, F403

STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
COUNT_API_USE = False
