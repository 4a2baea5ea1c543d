"""The browser face. Only this package knows allauth."""
