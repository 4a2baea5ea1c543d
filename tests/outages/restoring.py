"""The commands of docs/backup.md for Postgres, as they are there."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from project.devstack.servers import BASE, Postgres, postgres_bin, without_root
from tests.e2e.conftest import ask, eventually

PAGE = (BASE / "docs/backup.md").read_text()


def blocks(kind: str) -> list[str]:
    """Of this kind, in their order."""
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)


class Configured(Postgres):
    """With lines of the page at the end of its configuration; over a copy of a backup, if there is one."""

    def __init__(self, folder: Path, lines: str, *, backup: Path | None = None, like: Postgres | None = None) -> None:
        folder.mkdir()
        if like is not None:  # the password is among the data
            shutil.copy(like.folder / "secret", folder / "secret")
        super().__init__(folder)
        if backup is not None:
            shutil.copytree(backup, self.cluster)
            (self.cluster / "recovery.signal").touch()
        else:
            self.prepare()
        with (self.cluster / "postgresql.conf").open("a") as file:
            file.write(lines)

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        return ask(self.url, statement, *values)


class Backups:
    """A Postgres with an archive, its backups, and those that are restored from them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "backup"
        (self.place / "archive").mkdir(parents=True)
        self.production = Configured(folder / "production", self.of_page(blocks("ini")[0]))
        self._restored: list[Configured] = []

    def of_page(self, text: str, moment: str = "") -> str:
        return text.replace("/backup/", f"{self.place}/").replace("2026-11-28 10:00:00+00", moment)

    def back_up(self) -> Path:
        """As the page says, each night."""
        url = urlsplit(self.production.url)
        login = {"PGHOST": str(url.hostname), "PGPORT": str(url.port), "PGUSER": str(url.username)}
        path = {"PATH": f"{postgres_bin()}:{os.environ['PATH']}", "PGPASSWORD": str(url.password)}
        command = [*without_root(self.place), "sh", "-ec", self.of_page(blocks("sh")[0])]
        subprocess.run(command, env={**os.environ, **login, **path}, check=True)
        [made] = (self.place / "base").iterdir()
        return made

    def archive(self) -> None:
        """Everything until now."""
        this = "SELECT pg_walfile_name(pg_current_wal_lsn()) FROM (SELECT txid_current()) AS something"
        [[file]] = self.production.sql(this)
        self.production.sql("SELECT pg_switch_wal()")
        archived = self.place / "archive" / str(file)
        eventually(archived.exists)

    def restore(self, name: str, backup: Path, moment: str) -> Configured:
        """Another Postgres, of that moment."""
        lines = self.of_page(blocks("ini")[1], moment)
        made = Configured(self.folder / name, lines, backup=backup, like=self.production)
        self._restored.append(made)
        made.start()
        eventually(lambda: made.sql("SELECT pg_is_in_recovery()") == [(False,)])
        return made

    def stop(self) -> None:
        for server in (self.production, *self._restored):
            server.stop()
