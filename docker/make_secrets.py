"""Passwords and keys for `docker compose up`, made at random at the first start by the one-shot service `secrets`.

Each service has a folder (a volume) of its own, so that it sees only what it needs.
"""

import json
import os
import secrets
from pathlib import Path

APP_USER = 10001


def keep(file: Path, text: str, *, owner: int) -> str:
    """The text of the file. It is written with `text` if it does not exist yet."""
    if not file.exists():
        unfinished = file.with_suffix(".unfinished")
        unfinished.touch(mode=0o400)
        unfinished.write_text(text)
        os.chown(unfinished, owner, owner)
        unfinished.rename(file)
    return file.read_text()


app, postgres, pgbouncer, valkey, seaweedfs = (
    Path("/secrets", reader) for reader in ("app", "postgres", "pgbouncer", "valkey", "seaweedfs")
)

keep(app / "secret_key", secrets.token_urlsafe(64), owner=APP_USER)

password = keep(postgres / "password", secrets.token_hex(32), owner=0)
keep(app / "database_url", f"postgres://app:{password}@postgres:5432/app", owner=APP_USER)

# The addresses of the other servers are files too, so that NAME and NAME_FILE in .env both go before them.
configuration = keep(valkey / "valkey.conf", f"requirepass {secrets.token_hex(32)}\n", owner=0)
keep(app / "valkey_url", f"redis://:{configuration.split()[1]}@valkey:6379/0", owner=APP_USER)
keep(app / "email_url", "smtp://mailpit:1025", owner=APP_USER)

# The same database through PgBouncer (the profile `pooled`), and the password for PgBouncer itself.
keep(app / "pooled_database_url", f"postgres://app:{password}@pgbouncer:6432/app", owner=APP_USER)
keep(pgbouncer / "users", f'"app" "{password}"\n', owner=0)

key_id = keep(app / "s3_access_key_id", secrets.token_hex(10), owner=APP_USER)
key = keep(app / "s3_secret_access_key", secrets.token_hex(32), owner=APP_USER)
identity = {
    "name": "app",
    "credentials": [{"accessKey": key_id, "secretKey": key}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
keep(seaweedfs / "s3.json", json.dumps({"identities": [identity]}), owner=0)

# These images run as users whose ids we do not know. No other service has their volumes.
for file in (postgres / "password", pgbouncer / "users", valkey / "valkey.conf", seaweedfs / "s3.json"):
    file.chmod(0o444)
