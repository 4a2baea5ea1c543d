"""Django has no DATETIME_FORMAT of its own. One form of dates everywhere."""

DATE_FORMAT = "j F Y"
DATETIME_FORMAT = "j F Y، H:i"
