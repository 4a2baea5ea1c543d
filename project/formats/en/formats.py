"""Days before months, and 24 hours: Django's own English is American."""

DATETIME_FORMAT = "j F Y, H:i"
