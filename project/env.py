"""Settings from the environment. Each name is asked for once, with its default and a sentence of help;
`.env.example` and `docs/reference/settings.md` are written from what is remembered here.

Some names are a family: PROVIDER_X_NAME is asked for each X in PROVIDERS, and remembered once as it is written here.

A blank value counts as not set: Compose passes one for every name that a `.env` leaves empty.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit
from zoneinfo import available_timezones

import dj_database_url
import idna
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class Setting:
    name: str
    default: str | None  # None: there is no safe default, so it must be given
    help: str
    secret: bool = False


asked: dict[str, Setting] = {}
_read: set[str] = set()  # the names in the environment


def text(name: str, default: str | None, about: str, *, secret: bool = False, x: str = "X") -> str:
    """The value of NAME. A secret may also stand in a file, whose path is in NAME_FILE; NAME goes first. `x` stands for
    the X in a family's name."""
    asked[name] = Setting(name, default, about, secret)
    name = name.replace("_X_", f"_{x}_")
    _read.update({name, f"{name}_FILE"} if secret else {name})
    value = os.environ.get(name, "")
    path = os.environ.get(f"{name}_FILE", "").strip() if secret else ""
    if not value.strip() and path:
        value = Path(path).read_text().strip()
    if value.strip():
        return value
    if default is None:
        raise ImproperlyConfigured(f"{name} is not set. {about}")
    return default


def unread(prefix: str) -> list[str]:
    """Names that begin so and have a value that nothing has asked for: they are mistyped, or of what is turned off."""
    return sorted(name for name, value in os.environ.items() if name.startswith(prefix) and value and name not in _read)


def flag(name: str, default: bool, about: str, *, x: str = "X") -> bool:
    value = text(name, "1" if default else "0", about, x=x).strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name.replace('_X_', f'_{x}_')} must be 1 or 0, not {value!r}.")


def number(name: str, default: int, about: str) -> int:
    value = text(name, str(default), about)
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None


def share(name: str, default: float, about: str) -> float:
    value = text(name, str(default), about)
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if 0 <= found <= 1:
        return found
    raise ImproperlyConfigured(f"{name} must be a number from 0 to 1, not {value!r}.")


def choice(name: str, default: str, options: tuple[str, ...], about: str) -> str:
    known = ", ".join(filter(None, options))
    value = text(name, default, f"{about} One of {known}.")
    if value not in options:
        raise ImproperlyConfigured(f"{name} must be one of {known}, not {value!r}.")
    return value


def moment(name: str, about: str) -> datetime | None:
    """Midnight UTC of a day, or None where it is not given."""
    value = text(name, "", about)
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC) if value else None
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a day such as 2027-01-31, not {value!r}.") from None


def time_zone(name: str, default: str, about: str) -> str:
    value = text(name, default, about)
    if value not in available_timezones():
        raise ImproperlyConfigured(f"{name} must be a name such as Europe/Berlin, not {value!r}.")
    return value


def items(name: str, default: str | None, about: str, *, secret: bool = False, x: str = "X") -> list[str]:
    """Words divided by commas."""
    return [item.strip() for item in text(name, default, about, secret=secret, x=x).split(",") if item.strip()]


def ascii_host(host: str) -> str:
    """A host name as browsers send it: xn--bcher-kva.example for bücher.example."""
    if host.isascii():
        return host.lower()
    return "." * host.startswith(".") + idna.encode(host.removeprefix("."), uts46=True).decode()


def public_url(name: str, about: str) -> str:
    """As browsers send the address of this service in Origin and Host. Under any other, every form would be refused."""
    url = text(name, None, about).strip()
    try:
        parts, origin = urlsplit(url), _origin(url)
    except ValueError:
        parts, origin = urlsplit(""), ""
    if parts.scheme not in _USUAL_PORTS:
        raise ImproperlyConfigured(f"{name} must be like https://accounts.example.com or http://[::1]:8000.")
    if _goes_on(parts):
        raise ImproperlyConfigured(
            f"{name} must end after the host and its port, because this service answers at / only. Give it a host of "
            "its own, such as https://accounts.example.com."
        )
    return origin


def server(
    name: str, default: str | None, about: str, *, schemes: tuple[str, ...] = ("http", "https"), secret: bool = False
) -> str:
    """The address of a server that we call. Without a scheme it would be read as another one, or as none."""
    url = text(name, default, about, secret=secret).strip()
    if not url:
        return url
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        # Without the address, which may hold a password.
        begin = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ImproperlyConfigured(
            f"{name} must begin with {begin} and name a host, with what is special in a password percent-encoded. "
            f"{about}"
        )
    return url


def smtp(name: str, about: str) -> tuple[SplitResult, bool]:
    """The address of a mail server, and whether it is asked for STARTTLS."""
    parts = urlsplit(server(name, None, about, schemes=("smtp", "smtps"), secret=True))
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = query.pop("tls", "0").lower()
    if query or tls not in {"0", "1", "false", "true"}:
        raise ImproperlyConfigured(f"{name} may have ?tls=1 or ?tls=0 behind the host, and nothing else.")
    return parts, tls in {"1", "true"}


def origins(name: str, about: str) -> list[str]:
    return [_foreign_origin(name, item) for item in items(name, "", about)]


def _foreign_origin(name: str, item: str) -> str:
    if item == "*":
        raise ImproperlyConfigured(
            f"{name} can't be *: any page could try passwords from its visitors' addresses. Name each origin."
        )
    try:
        origin = "" if _goes_on(urlsplit(item)) else _origin(item)
    except ValueError:
        origin = ""
    if not origin:
        raise ImproperlyConfigured(f"{name}: {item!r} must be a scheme and a host alone, like https://app.example.com.")
    return origin


def _goes_on(parts: SplitResult) -> bool:
    """Whether more is said than scheme, host and port."""
    return "@" in parts.netloc or bool(parts.path.strip("/") or parts.query or parts.fragment)


_USUAL_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")


def _origin(url: str) -> str:
    """As browsers send it: lower case, ASCII, and without the port that is the scheme's own. Raises ValueError for what
    no browser would send, or Django would not answer."""
    parts = urlsplit(url)
    host = ascii_host(parts.hostname or "").rstrip(".")
    if "[" in parts.netloc:
        host = f"[{IPv6Address(host.partition('%')[0])}]"
    elif host.rpartition(".")[2].isdecimal():
        host = str(IPv4Address(host))
    elif not parts.scheme or not _NAME.fullmatch(host):
        raise ValueError("no host name")
    port = "" if parts.port in {None, _USUAL_PORTS.get(parts.scheme)} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def database(url: str) -> dict[str, Any]:
    """Django's settings of a Postgres. dj_database_url knows one host; here there may be several, as in libpq:
    postgres://user:password@host1:5432,host2:5432/name"""
    try:
        parts = urlsplit(url)
        user, at, hosts = parts.netloc.rpartition("@")
        found = [urlsplit(f"//{host}") for host in hosts.split(",")]
        parsed: dict[str, Any] = dict(
            dj_database_url.parse(parts._replace(netloc=f"{user}{at}{found[0].netloc}").geturl())
        )
        if len(found) > 1:
            parsed["HOST"] = ",".join(host.hostname or "" for host in found)
            parsed["PORT"] = ",".join(str(host.port or 5432) for host in found)
    except ValueError:
        parsed = {}
    if not str(parsed.get("ENGINE", "")).endswith(".postgresql"):
        # Without the address, which holds a password.
        raise ImproperlyConfigured(
            "DATABASE_URL and DATABASE_REPLICA_URL must be like postgres://user:password@host:5432/name, with what is "
            "special in a password percent-encoded."
        )
    return parsed


_FILES = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_TLS = {*_FILES, "ssl_cert_reqs", "ssl_check_hostname"}


def redis_url(name: str, about: str) -> str:
    """One reading for both clients. By itself the broker's (kombu) looks at no certificate, and that of the limits
    (redis-py) knows fewer spellings; what only one of them can read is refused."""
    try:
        parts = urlsplit(text(name, None, about, secret=True).strip())
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        has_address = bool(parts.hostname) and parts.port != 0 and (parts.path.strip("/") or "0").isdecimal()
    except ValueError:
        raise ImproperlyConfigured(f"{name} is no address. {about}") from None
    if parts.scheme not in {"redis", "rediss"} or not has_address:
        raise ImproperlyConfigured(f"{name} must be like redis://host:6379/0 or rediss://host:6379/0.")
    known = _TLS if parts.scheme == "rediss" else set()
    if unknown := query.keys() - known:
        raise ImproperlyConfigured(f"{name} has {min(unknown)}; of what may stand there: {sorted(known) or 'nothing'}.")
    if missing := [value for key, value in query.items() if key in _FILES and not Path(value).is_file()]:
        raise ImproperlyConfigured(f"{name} names a file that is not there: {missing[0]}")
    if known:
        query["ssl_cert_reqs"] = query.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
        if query["ssl_cert_reqs"] not in {"none", "optional", "required"}:
            raise ImproperlyConfigured(f"{name}: ssl_cert_reqs must be required, optional or none.")
    return parts._replace(query=urlencode(query, safe="/")).geturl()
