"""nginx with the configuration of docker-compose.yml, where there is one, in front of a web process on this machine."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from project.devstack.servers import BASE

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def nginx(folder: Path, *, listen: int, web: int, beside: Sequence[int] = ()) -> "subprocess.Popen[bytes]":
    """With more web processes `beside` the one."""
    assert NGINX
    conf = (BASE / "docker/nginx.conf").read_text()
    for theirs, ours in (
        ("listen 8080", f"listen 127.0.0.1:{listen}"),
        # Debian's nginx is too old to look up a name again.
        (
            "server web:8000 resolve max_fails=0",
            "; ".join(f"server 127.0.0.1:{port} max_fails=0" for port in (web, *beside)),
        ),
        ("pid /tmp/nginx.pid", f"pid {folder}/pid"),
        ("_path /tmp/", f"_path {folder}/"),
        ("include mime.types", "include /etc/nginx/mime.types"),
        ("access_log /dev/stdout", f"access_log {folder}/access.log"),
        ("error_log /dev/stderr", f"error_log {folder}/error.log"),
    ):
        assert theirs in conf
        conf = conf.replace(theirs, ours)
    # Of root its workers would be another user, who may not write a body into the folder of a test.
    user = "user root;\n" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"daemon off;\n{user}{conf}")
    return subprocess.Popen([NGINX, "-c", f"{folder}/nginx.conf", "-p", str(folder)])
