"""The rules, in packages by noun. Each package uses only those below it: staff, account, profile, authentication,
sessions, mail, credentials, security (pyproject.toml holds them to it)."""
