"""What `docker compose up` must keep secret, made at random at the first start; run by the one-shot service `secrets`.

Each reader has a folder (a volume) of its own, so that nobody sees what is not theirs.
"""

import json
import os
import secrets
from pathlib import Path

APP_USER = 10001


def keep(file: Path, text: str, *, owner: int) -> str:
    """The text of the file; `text` if there is none yet."""
    if not file.exists():
        unfinished = file.with_suffix(".unfinished")
        unfinished.touch(mode=0o400)
        unfinished.write_text(text)
        os.chown(unfinished, owner, owner)
        unfinished.rename(file)
    return file.read_text()


app, postgres, pgbouncer, seaweedfs = (
    Path("/secrets", reader) for reader in ("app", "postgres", "pgbouncer", "seaweedfs")
)

keep(app / "secret_key", secrets.token_urlsafe(64), owner=APP_USER)

password = keep(postgres / "password", secrets.token_hex(32), owner=0)
keep(app / "database_url", f"postgres://app:{password}@postgres:5432/app", owner=APP_USER)

# The same by way of PgBouncer (the profile `pooled`), and what it needs to know.
keep(app / "pooled_database_url", f"postgres://app:{password}@pgbouncer:6432/app", owner=APP_USER)
keep(pgbouncer / "users", f'"app" "{password}"\n', owner=0)
(pgbouncer / "users").chmod(0o444)

key_id = keep(app / "s3_access_key_id", secrets.token_hex(10), owner=APP_USER)
key = keep(app / "s3_secret_access_key", secrets.token_hex(32), owner=APP_USER)
identity = {
    "name": "app",
    "credentials": [{"accessKey": key_id, "secretKey": key}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
keep(seaweedfs / "s3.json", json.dumps({"identities": [identity]}), owner=0)
# The image's own user, whose number is not ours to know, reads it; nobody else has this volume.
(seaweedfs / "s3.json").chmod(0o444)
