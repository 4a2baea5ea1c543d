"""Writes .env.example, the reference pages and the API's contract from the code."""

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.lib import metrics
from accounts.services import mail
from accounts.services.security import audit, rate_limits
from api import catalogue
from api.v1 import api as v1
from project import alerts, env

_WRITTEN = "Written by `make contract` from {}; change it there.\n"


class Command(BaseCommand):
    help = "Writes .env.example, docs/reference/*.md and api/v1/openapi.json; --check only says whether they are fresh."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true")

    def handle(self, *, check: bool, **_: Any) -> None:
        stale = []
        for name, text in pages().items():
            path = settings.BASE_DIR / name
            if path.exists() and path.read_text() == text:
                continue
            stale.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        if check and stale:
            raise CommandError(
                f"not what the code says: {', '.join(stale)}. Run `make contract` and look at the change."
            )
        self.stdout.write(f"{'stale' if check else 'wrote'}: {', '.join(stale)}" if stale else "all fresh")


def pages() -> dict[str, str]:
    """{path: text} of everything that is written from the code."""
    return {
        ".env.example": _env_example(),
        "docs/reference/settings.md": _settings(),
        "docs/reference/errors.md": _errors(),
        "docs/reference/events.md": _events(),
        "docs/reference/limits.md": _limits(),
        "docs/reference/metrics.md": _metrics(),
        "docs/ops/alerts.yml": alerts.rules(),
        "docs/ops/alerts_test.yml": alerts.rule_tests(),
        "docs/ops/dashboard.json": alerts.dashboard(),
        "api/v1/openapi.json": _contract(),
    }


def _contract() -> str:
    """A service names its own address; the file in git names none that exists."""
    schema = {**v1.get_openapi_schema(path_prefix="/api/v1/"), "servers": [{"url": "https://accounts.example.com"}]}
    return json.dumps(schema, indent=2, default=str) + "\n"


# Their defaults are made of other settings, so they would name this machine's paths and hosts.
_DERIVED = {"ALLOWED_HOSTS", "EMAIL_FROM", "STATIC_ROOT"}


def _example(setting: env.Setting) -> str:
    return "" if setting.name in _DERIVED else setting.default or ""


def _env_example() -> str:
    text = "# Every setting. " + _WRITTEN.format("project/settings.py")
    text += "# A blank value counts as not set. A secret may also stand in a file: NAME_FILE=/path.\n"
    for setting in env.asked.values():
        comment = "" if setting.default is None else "# "
        text += f"\n# {setting.help}\n{comment}{setting.name}={_example(setting)}\n"
    return text


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |\n"

    return line(head) + line("---" for _ in head) + "".join(line(row) for row in rows)


def _page(title: str, source: str, *parts: str) -> str:
    return f"# {title}\n\n{_WRITTEN.format(source)}\n" + "\n".join(parts)


def _settings() -> str:
    rows = [
        (
            f"`{setting.name}`",
            "**needed**" if setting.default is None else f"`{_example(setting)}`" if _example(setting) else "",
            setting.help + (" May stand in a file: `" + setting.name + "_FILE`." if setting.secret else ""),
        )
        for setting in env.asked.values()
    ]
    return _page("Settings", "`project/settings.py`", _table(("name", "default", "what it is"), rows))


def _errors() -> str:
    rows = (
        (f"<a id='{line.code}'></a>`{line.code}`", line.status, f"`{line.action}`", line.sentence)
        for line in catalogue.lines()
    )
    actions = _table(
        ("action", "what an app does"), ((f"`{name}`", words) for name, words in catalogue.ACTIONS.items())
    )
    signed_out = ", ".join(f"`{code}`" for code in catalogue.SIGNED_OUT)
    words = (
        "The service shows this page at `/api/errors`, in the language asked for; `type` of every error names its "
        f"line.\n\nSign the person out only on {signed_out}, never on a 5xx, a time-out or `rate_limited`.\n"
    )
    fields = ((f"`{code}`", sentence) for code, sentence in catalogue.fields())
    return _page(
        "Errors",
        "`accounts/errors.py`, `api/errors.py` and `api/catalogue.py`",
        words,
        actions,
        _table(("code", "status", "action", "sentence"), rows),
        _table(("code in `errors[]`", "sentence"), fields),
    )


def _events() -> str:
    kinds = _table(("kind", "what it means"), ((f"`{kind}`", audit.WORDS[kind]) for kind in audit.Kind))
    return _page("Events of the security log", "`accounts/services/security/audit.py`", kinds)


def _limits() -> str:
    rows = ((f"`{limit.name}`", limit.amount, limit.seconds) for limit in rate_limits.DEFAULTS)
    mails = _table(
        ("mail", "sent as"),
        ((f"`{name}`", "code, before the notices" if name in mail.CODES else "notice") for name in mail.Message),
    )
    words = "Other numbers: `RATE_LIMITS=login_per_ip=100/300,…` (tries/seconds).\n"
    return _page(
        "Limits and mails",
        "`accounts/services/security/rate_limits.py` and `accounts/services/mail/messages.py`",
        words,
        _table(("limit", "tries", "seconds"), rows),
        mails,
    )


def _metrics() -> str:
    told = _table(
        ("metric", "kind", "labels", "what it says"),
        (
            (f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.about)
            for metric in metrics.METRICS
        ),
    )
    meant = _table(
        ("alert", "severity", "what it means", "what to do"),
        (
            (f"`{alert.name}`", alert.severity, alert.summary.replace("{{ $labels.code }}", "`code`"), alert.action)
            for alert in alerts.ALERTS
        ),
    )
    words = (
        "`GET /metrics`, if `METRICS_TOKEN` is set: [operating.md](../operating.md#watch). `face` is api or page; "
        "`operation` an operation_id of the API, the name of a URL, or other.\n"
    )
    files = (
        "The alerts: [alerts.yml](../ops/alerts.yml), each with a case in which it fires and one in which it does "
        "not ([alerts_test.yml](../ops/alerts_test.yml)). For Grafana: [dashboard.json](../ops/dashboard.json).\n"
    )
    return _page("Metrics and alerts", "`accounts/lib/metrics.py` and `project/alerts.py`", words, told, files, meant)
