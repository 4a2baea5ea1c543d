"""One source for each fact, and nothing that nobody uses."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, get_commands, load_command_class
from django.template.loader import get_template
from django.urls import URLPattern, URLResolver, get_resolver

from accounts import errors
from accounts.errors import AccountError
from accounts.lib import metrics
from accounts.services import mail
from accounts.services.security import audit, rate_limits
from api.errors import CASES, RequestError
from project.alerts import ALERTS, dashboard
from project.management.commands.write_reference import pages

BASE: Path = settings.BASE_DIR
RULES = "\n".join(
    path.read_text() for path in sorted((BASE / "accounts").rglob("*.py")) if "migrations" not in path.parts
)


def kinds(parent: type[AccountError]) -> Iterator[type[AccountError]]:
    for kind in parent.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_each_error_has_a_status_and_a_code_of_its_own() -> None:
    concrete = set(kinds(AccountError)) - {RequestError}
    assert concrete == set(CASES)
    codes = [kind.code for kind in concrete]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


def test_each_error_of_the_rules_is_raised_by_some_rule() -> None:
    services = "\n".join(path.read_text() for path in (BASE / "accounts/services").rglob("*.py"))
    own = {kind.__name__ for kind in kinds(AccountError) if kind.__module__ == errors.__name__}
    assert {name for name in own if not re.search(rf"raise {name}\b", services)} == set()


def test_each_event_and_mail_and_limit_is_used() -> None:
    assert {kind.name for kind in audit.Kind if f"Kind.{kind.name}" not in RULES} == set()
    assert {name.name for name in mail.Message if f"mail.Message.{name.name}" not in RULES} == set()
    assert {limit.name for limit in rate_limits.DEFAULTS if RULES.count(f'"{limit.name}"') < 2} == set()


@pytest.mark.parametrize("message", list(mail.Message))
def test_each_mail_has_its_three_templates(message: mail.Message) -> None:
    for ending in ("subject.txt", "txt", "html"):
        get_template(f"mail/{message}.{ending}")


def test_no_mail_template_belongs_to_nothing() -> None:
    found = {path.name.split(".")[0] for path in (BASE / "templates/mail").glob("*.*")}
    assert found - {str(message) for message in mail.Message} == {"frame"}


def test_the_reference_is_what_the_code_says() -> None:
    stale = [name for name, text in pages().items() if (BASE / name).read_text() != text]
    assert stale == [], "run `make contract` and look at the change"


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for item in resolver.url_patterns:
        if isinstance(item, URLResolver):
            yield from routes(item, prefix + str(item.pattern))
        elif isinstance(item, URLPattern):
            yield prefix + str(item.pattern)


def test_no_path_outside_the_house() -> None:
    heads = {re.split(r"[/^]", path)[0] for path in routes(get_resolver())}
    machines = {".well-known", "livez", "readyz", "metrics", "favicon.ico", "robots.txt"}
    assert heads <= {"", "account", "admin", "api"} | machines


def test_nothing_names_a_registry_or_this_machine() -> None:
    hosts = re.compile("|".join(["py" + "pi.org", "python" + "hosted", "npm" + "js.org", "deb" + "ian.org"]))
    for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml", "Makefile", "Dockerfile", "README.md"):
        assert not hosts.search((BASE / name).read_text()), name


def _heading(line: str) -> str:
    """As GitHub makes an anchor of it."""
    return re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")


def test_every_page_that_the_code_or_a_page_names_exists() -> None:
    kinds = {".py", ".conf", ".ini", ".html", ".txt", ".js", ".css", ".yml", ".toml", ".example", ""}
    files = [
        *(BASE / name for name in ("docker-compose.yml", "Dockerfile", "Makefile", "pyproject.toml", ".env.example")),
        *(path for folder in HOUSE for path in (BASE / folder).rglob("*") if path.is_file() and path.suffix in kinds),
    ]
    named = {
        (path.relative_to(BASE).as_posix(), name)
        for path in files
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())
    }
    assert len(named) > 20
    assert {pair for pair in named if not (BASE / pair[1]).exists()} == set()


HOUSE = ("accounts", "api", "project", "tests", "docker", "templates", "static")


def test_every_link_of_a_page_leads_to_a_file_and_its_heading() -> None:
    links = {
        (page, *link)
        for page in (*BASE.glob("*.md"), *(BASE / "docs").rglob("*.md"))
        for link in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text())
    }
    assert len(links) > 40
    missing = set()
    for page, name, anchor in links:
        target = page.parent / name if name else page
        if not target.exists():
            missing.add((page.name, name))
        elif anchor and target.suffix == ".md":
            headings = {_heading(line) for line in target.read_text().splitlines() if line.startswith("#")}
            if anchor not in headings and f'id="{anchor}"' not in target.read_text():
                missing.add((page.name, f"{name}#{anchor}"))
    assert missing == set()


PAGES = (BASE / "README.md", BASE / "SECURITY.md", *(BASE / "docs").rglob("*.md"))


def test_every_command_of_a_page_can_be_typed() -> None:
    commands = get_commands()
    targets = set(re.findall(r"^\.PHONY: (.+)$", (BASE / "Makefile").read_text(), re.MULTILINE)[0].split())
    typed, wrong = 0, []
    for page in PAGES:
        text = page.read_text()
        for name, options in re.findall(r"(?:manage\.py|make manage ARGS=\") ?([a-z_]+)([^`\n#…]*)", text):
            typed += 1
            command = load_command_class(commands[name], name) if name in commands else None
            words = shlex.split(options if options.count('"') % 2 == 0 else options.rpartition('"')[0])
            # What a command can't do without, a sentence may leave out.
            try:
                is_right = command is not None and bool(command.create_parser("manage.py", name).parse_args(words))
            except CommandError as error:
                is_right = "are required" in str(error)
            if not is_right:
                wrong.append((page.name, name, options))
        wrong += [(page.name, "make", name) for name in re.findall(r"`make ([a-z]+)", text) if name not in targets]
    assert typed > 20
    assert wrong == []


# Of other programs.
THEIRS = {
    "DJANGO_SUPERUSER_PASSWORD", "SSL_CERT_FILE", "SENTRY_DSN", "GRANIAN_LOG_CONFIG",
    "OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES",
}  # fmt: skip


def test_every_setting_of_a_page_for_operators_exists() -> None:
    """In the settings, in the compose file, or in a drill."""
    sources = "".join((BASE / name).read_text() for name in (".env.example", "docker-compose.yml", "CONTRIBUTING.md"))
    known = set(re.findall(r"[A-Z][A-Z0-9_]+", sources)) | THEIRS
    known |= {f"{name}_FILE" for name in known} | {"NAME_FILE"}
    named = {
        (name, setting)
        for name in ("operating", "bucket", "backup", "scale", "importing")
        for setting in re.findall(r"`([A-Z0-9]+_[A-Z0-9_]+)[=`]", (BASE / f"docs/{name}.md").read_text())
    }
    assert len(named) > 30
    assert {(page, setting) for page, setting in named if setting not in known} == set()


def test_no_private_name_of_allauth_is_used() -> None:
    """They move between versions; tests/smoke/test_newest_versions.py imports everything with the newest."""
    used = re.findall(r"^(?:from|import) (allauth\S*)(?: import (.+))?$", RULES, re.MULTILINE)
    assert len(used) > 5
    assert [pair for pair in used if re.search(r"internal|(?:^|[ .])_", " ".join(pair), re.IGNORECASE)] == []


def test_alerts_and_dashboard_name_only_metrics_of_the_list() -> None:
    """Whether an alert fires when it should is tested by promtool (`make check`)."""
    names = {metric.name for metric in metrics.METRICS}
    for metric in metrics.METRICS:
        names |= {f"{metric.name}_{end}" for end in ("bucket", "count", "sum")} if metric.buckets else set()
    known = re.compile(r"\bus_\w+")
    alerting = {name for alert in ALERTS for name in known.findall(alert.expr)}
    assert alerting - names == set()
    for alert in ALERTS:
        for series in (alert.fires, alert.quiet, alert.too_few):
            assert {name for text in series for name in known.findall(text)} <= names, alert.name
    shown = {name for panel in json.loads(dashboard())["panels"] for name in known.findall(str(panel["targets"]))}
    assert shown - names == set()
    assert {metric.name for metric in metrics.METRICS if not any(metric.name in name for name in shown)} == set()
