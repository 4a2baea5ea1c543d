"""Some of these use what the tests have, and that needs Django's models."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()
