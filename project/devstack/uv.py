"""uv with pip's own settings, which it reads from nowhere by itself: certificate, indexes, proxy. `make` calls uv so,
before anything else is installed."""

import ast
import os
import subprocess
import sys
from pathlib import Path

# What pip calls it: what uv reads, and what divides several values there.
NAMES = {
    "cert": ("SSL_CERT_FILE", None),
    "client-cert": ("SSL_CLIENT_CERT", None),
    "proxy": ("ALL_PROXY", None),
    "index-url": ("UV_DEFAULT_INDEX", None),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
}


def settings(pip_says: str) -> dict[str, str]:
    """What `pip config list` says, in uv's words. With pip, the environment goes before a file."""
    found: dict[str, str] = {}
    for place in ("global.", "install.", ":env:."):
        for line in pip_says.splitlines():
            name, _, value = line.removeprefix(place).partition("=")
            if line.startswith(place) and name in NAMES:
                variable, divider = NAMES[name]
                text = str(ast.literal_eval(value))
                found[variable] = divider.join(text.split()) if divider else text
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip's way: all indexes are alike
    return {variable: text for variable, text in found.items() if text}


def main() -> None:
    pip = [sys.executable, "-m", "pip", "config", "list"]
    found = settings(subprocess.run(pip, stdout=subprocess.PIPE, text=True, check=False).stdout)
    if sys.argv[1:3] == ["pip", "compile"]:  # a lock file is the same on every machine
        for variable in ("UV_INDEX", "UV_INDEX_STRATEGY", "UV_FIND_LINKS"):
            found.pop(variable, None)
    # What is said to uv itself goes first. pip's certificate goes before everybody's, because pip has just worked.
    own = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    uv = str(Path(sys.executable).with_name("uv"))
    os.execve(uv, [uv, *sys.argv[1:]], {**os.environ, **found, **own})  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
