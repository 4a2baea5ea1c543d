"""Django has none of its own."""

DATETIME_FORMAT = "j F Y، H:i"
