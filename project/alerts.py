"""What is written of the list of metrics (accounts/lib/metrics.py) for Prometheus and Grafana: the alerts, for each a
case in which it fires and one in which it does not, and the dashboard. `make contract` writes docs/ops/; promtool plays
the cases in `make check`.

Every web process tells the same of what is in Postgres, so there a `max` of all of them is taken; what each counted
itself is added up."""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from accounts.lib import metrics
from accounts.lib.metrics import Kind, Metric

WRITTEN = "# Written by `make contract` from `project/alerts.py`; change it there.\n"
JOB = "user-service"
OURS = 'operation!~"livez|readyz|metrics"'  # of machines that only look; they would thin out what people meet

Series = dict[str, str]  # in promtool's notation: a value each minute


@dataclass(frozen=True, kw_only=True)
class Alert:
    """`lasts` is how long it must be so. `severity`: page (wake somebody), ticket (this week), note. `fires` and
    `quiet` are the two cases, `too_few` one more that is as bad as `fires` where nearly nobody is there; `labels` are
    those that tell what it is about."""

    name: str
    expr: str
    lasts: str
    severity: str
    summary: str
    action: str
    fires: Series
    quiet: Series
    too_few: Series = field(default_factory=dict)
    at: str = "30m"
    labels: Series = field(default_factory=dict)


def _rates(operation: str, status: str, rate: int) -> Series:
    return {f'us_http_seconds_count{{face="api",operation="{operation}",status="{status}"}}': f"0+{rate}x60"}


def _buckets(metric: Metric, below: float, rate: int, labels: str = "") -> Series:
    """All observations are between `below` and the bucket before it."""
    bounds = {**{bound: str(bound) for bound in metric.buckets}, inf: "+Inf"}
    return {
        f'{metric.name}_bucket{{{labels}le="{name}"}}': f"0+{rate if bound >= below else 0}x60"
        for bound, name in bounds.items()
    }


def _events(**rates: int) -> Series:
    return {f'us_events_total{{kind="{kind.replace("_", ".", 1)}"}}': f"0+{rate}x60" for kind, rate in rates.items()}


def _event(kind: str, window: str) -> str:
    return f'max(rate(us_events_total{{kind="{kind}"}}[{window}]))'


def _mails(**rates: float) -> Series:
    return {f"us_mail_{what}_total": f"0+{rate}x60" for what, rate in rates.items()}


_5XX = f'sum(increase(us_http_seconds_count{{{OURS},status=~"5.."}}[5m]))'
_SIGN_IN = 'operation=~"signIn|account_login"'
_NOT_SENT = "(max(increase(us_mail_failed_total[30m])) + max(increase(us_mail_put_off_total[30m])))"


ALERTS = (
    Alert(
        name="WebAway",
        expr=f'(sum(up{{job="{JOB}"}}) or vector(0)) == 0',
        lasts="1m",
        severity="page",
        summary="No web process answers.",
        action="Look at the log of web and at /livez of each process.",
        fires={f'up{{job="{JOB}",instance="a"}}': "0x60"},
        quiet={f'up{{job="{JOB}",instance="a"}}': "0x60", f'up{{job="{JOB}",instance="b"}}': "1x60"},
    ),
    Alert(
        name="DatabaseAway",
        expr="min(us_db_up) == 0",
        lasts="1m",
        severity="page",
        summary="A web process can't read from Postgres.",
        action="Look at Postgres, and at the pooler in front of it. Everybody gets 503 until it answers.",
        fires={"us_db_up": "0x60"},
        quiet={"us_db_up": "1x60"},
    ),
    Alert(
        name="Errors",
        expr=f"{_5XX} > 10 and {_5XX} > 0.01 * sum(increase(us_http_seconds_count{{{OURS}}}[5m]))",
        lasts="5m",
        severity="page",
        summary="More than one request in a hundred, and more than ten in five minutes, are answered with 5xx.",
        action="The dashboard shows where; the log has a traceback (`unforeseen`), or names the server that is away.",
        fires=_rates("getProfile", "200", 600) | _rates("signIn", "503", 12),
        quiet=_rates("getProfile", "200", 600) | _rates("signIn", "503", 3) | _rates("readyz", "503", 600),
        too_few=_rates("getProfile", "200", 4) | _rates("signIn", "503", 1),
    ),
    Alert(
        name="SignInSlow",
        expr=f"histogram_quantile(0.95, sum by (le) (rate(us_http_seconds_bucket{{{_SIGN_IN}}}[5m]))) > 1"
        f' and sum(increase(us_http_seconds_bucket{{{_SIGN_IN},le="+Inf"}}[5m])) > 10',
        lasts="5m",
        severity="page",
        summary="One sign-in in twenty takes more than a second.",
        action="Look at us_hash_wait_seconds (more web processes help), then at Postgres.",
        fires=_buckets(metrics.HTTP, 2.5, 60, 'operation="signIn",'),
        quiet=_buckets(metrics.HTTP, 0.5, 60, 'operation="signIn",')
        | _buckets(metrics.HTTP, 2.5, 60, 'operation="x",'),
        too_few=_buckets(metrics.HTTP, 2.5, 1, 'operation="signIn",'),
    ),
    Alert(
        name="MailLate",
        expr="max(us_mail_oldest_seconds) > 120",
        lasts="2m",
        severity="page",
        summary="Emails wait for more than two minutes. People are waiting for codes.",
        action="Look at the worker's log and at the mail server. What waits is sent by itself afterwards.",
        fires={"us_mail_oldest_seconds": "0+60x60"},
        quiet={"us_mail_oldest_seconds": "100x60"},
    ),
    Alert(
        name="MailRefused",
        expr=f"{_NOT_SENT} > 5 and {_NOT_SENT} > max(increase(us_mail_sent_total[30m])) / 3",
        lasts="2m",
        severity="page",
        summary="More than one email in four is refused or put off, and more than five in half an hour.",
        action="The worker's log has the mail server's answers. What it refused for good (5xx) is not sent again.",
        fires=_mails(sent=6, failed=1, put_off=2),
        quiet=_mails(sent=60, failed=6, put_off=6),
        too_few=_mails(sent=0, failed=0.1, put_off=0),
    ),
    Alert(
        name="BeatAway",
        expr="time() - max(us_beat_seen_timestamp_seconds) > 60",
        lasts="2m",
        severity="page",
        summary="Beat has asked for no work for a minute.",
        action="Start it. Until then emails whose notification was lost wait, and nothing is erased or removed.",
        fires={"us_beat_seen_timestamp_seconds": "0+60x20 1200x40"},
        quiet={"us_beat_seen_timestamp_seconds": "0+60x60"},
    ),
    Alert(
        name="WorkerAway",
        expr="time() - max(us_worker_seen_timestamp_seconds) > 60",
        lasts="2m",
        severity="page",
        summary="No worker has done what beat asks for, for a minute.",
        action="If beat is away too, look at Valkey. Else look at the worker: emails and uploads wait.",
        fires={"us_worker_seen_timestamp_seconds": "0+60x20 1200x40"},
        quiet={"us_worker_seen_timestamp_seconds": "0+60x60"},
    ),
    Alert(
        name="PasswordGuessing",
        expr=f"{_event('login.failed', '5m')} > 5 * {_event('session.started', '5m')} + 1",
        lasts="5m",
        severity="page",
        summary="Far more sign-ins fail than succeed: somebody tries passwords.",
        action="Look at the addresses in the log (code=invalid_credentials), and block them in front of the service.",
        fires=_events(login_failed=600, session_started=60),
        quiet=_events(login_failed=300, session_started=60),
    ),
    Alert(
        name="TokensReused",
        expr=f"900 * {_event('session.reused', '15m')} > 10 + 3 * 900 * {_event('session.reused', '2h')}",
        lasts="1m",
        severity="page",
        summary="Many more used refresh tokens come back than usual: stolen ones, or a broken version of an app.",
        action="`manage.py api_use` shows the versions of the app; the sessions were ended already.",
        fires={'us_events_total{kind="session.reused"}': "0x120 0+5x60"},
        quiet={'us_events_total{kind="session.reused"}': "0+1x180"},
        at="140m",
    ),
    Alert(
        name="SignUpsUnconfirmed",
        expr="max(increase(us_confirmations_total[1h])) < 0.2 * max(increase(us_sign_ups_total[1h]))"
        " and max(increase(us_sign_ups_total[1h])) > 20",
        lasts="10m",
        severity="ticket",
        summary="Fewer than one new account in five confirms its address: emails are lost, or bots sign up.",
        action="Send yourself one. If it arrives, look at who signs up.",
        fires={"us_sign_ups_total": "0+10x200", "us_confirmations_total": "0+1x200"},
        quiet={"us_sign_ups_total": "0+10x200", "us_confirmations_total": "0+5x200"},
        at="100m",
    ),
    Alert(
        name="Refusing",
        expr='sum by (code) (increase(us_refused_total{code=~"overloaded|storage_unavailable"}[10m])) > 0',
        lasts="5m",
        severity="ticket",
        summary="Requests are refused with {{ $labels.code }}.",
        action="overloaded: more web processes. storage_unavailable: look at the bucket, `manage.py check_storage`.",
        fires={'us_refused_total{code="overloaded"}': "0+1x60"},
        quiet={'us_refused_total{code="overloaded"}': "7x60", 'us_refused_total{code="rate_limited"}': "0+9x60"},
        labels={"code": "overloaded"},
    ),
    Alert(
        name="HashesWait",
        expr="histogram_quantile(0.95, sum by (le) (rate(us_hash_wait_seconds_bucket[5m]))) > 1",
        lasts="5m",
        severity="ticket",
        summary="One password in twenty waits for more than a second to be hashed.",
        action="More web processes, or PASSWORD_HASH_CONCURRENCY if there are processors and memory.",
        fires=_buckets(metrics.HASH_WAIT, 2.5, 60),
        quiet=_buckets(metrics.HASH_WAIT, 0.25, 60),
    ),
    Alert(
        name="SigningKeyOld",
        expr="max(us_signing_key_age_seconds - us_signing_key_max_age_seconds) > 86400",
        lasts="1h",
        severity="ticket",
        summary="The key that signs access tokens should have been replaced a day ago.",
        action="The worker does it each hour (accounts.keep_signing_keys): look at its log.",
        fires={"us_signing_key_age_seconds": "7900000x200", "us_signing_key_max_age_seconds": "7776000x200"},
        quiet={"us_signing_key_age_seconds": "7800000x200", "us_signing_key_max_age_seconds": "7776000x200"},
        at="100m",
    ),
    Alert(
        name="ErasuresOverdue",
        expr="max(us_erasures_overdue) > 0",
        lasts="10m",
        severity="ticket",
        summary="Accounts whose grace is over are not erased.",
        action="Look at the worker's log (accounts.erase_due_accounts); it needs the bucket, and that it is ours.",
        fires={"us_erasures_overdue": "3x60"},
        quiet={"us_erasures_overdue": "0x60"},
    ),
    Alert(
        name="ValkeyAway",
        expr="sum(increase(us_fallback_limits_total[5m])) > 0",
        lasts="10m",
        severity="ticket",
        summary="Limits by network address are counted by each web process alone, because Valkey is away.",
        action="Start it. Everything else works, a few seconds later.",
        fires={"us_fallback_limits_total": "0+5x60"},
        quiet={"us_fallback_limits_total": "5x60"},
    ),
    Alert(
        name="ReplicaAway",
        expr="sum(increase(us_replica_away_total[5m])) > 0",
        lasts="10m",
        severity="ticket",
        summary="The replica is away, and the primary answers for it.",
        action="Look at the replica, or take DATABASE_REPLICA_URL away.",
        fires={"us_replica_away_total": "0+5x60"},
        quiet={"us_replica_away_total": "5x60"},
    ),
    Alert(
        name="DatabaseConnections",
        expr="max(us_db_connections / us_db_max_connections) > 0.8",
        lasts="10m",
        severity="ticket",
        summary="More than four in five of Postgres' connections are taken.",
        action="Put a pooler in front, or raise max_connections: docs/scale.md.",
        fires={"us_db_connections": "90x60", "us_db_max_connections": "100x60"},
        quiet={"us_db_connections": "70x60", "us_db_max_connections": "100x60"},
    ),
    Alert(
        name="TwoVersions",
        expr="count(count by (version) (us_build_info)) > 1",
        lasts="1h",
        severity="note",
        summary="Two versions have answered side by side for an hour.",
        action="Finish the update, or take it back.",
        fires={'us_build_info{version="1"}': "1x200", 'us_build_info{version="2"}': "1x200"},
        quiet={'us_build_info{version="1"}': "1x200", 'us_build_info{version="2"}': "1x30"},
        at="100m",
    ),
)


def rules() -> str:
    """docs/ops/alerts.yml. A JSON string is a YAML string as well."""
    text = f"{WRITTEN}groups:\n  - name: {JOB}\n    rules:\n"
    for alert in ALERTS:
        text += f"      - alert: {alert.name}\n        expr: {json.dumps(alert.expr)}\n        for: {alert.lasts}\n"
        text += f"        labels: {{severity: {alert.severity}}}\n        annotations:\n"
        text += f"          summary: {json.dumps(alert.summary)}\n          action: {json.dumps(alert.action)}\n"
    return text


def rule_tests() -> str:
    """docs/ops/alerts_test.yml, for `promtool test rules`."""
    text = f"{WRITTEN}rule_files: [alerts.yml]\nevaluation_interval: 1m\ntests:\n"
    for alert in ALERTS:
        summary = alert.summary.replace("{{ $labels.code }}", alert.labels.get("code", ""))
        told = {
            "exp_labels": {"severity": alert.severity, **alert.labels},
            "exp_annotations": {"summary": summary, "action": alert.action},
        }
        cases = [("fires", alert.fires, [told]), ("is quiet", alert.quiet, [])]
        if alert.too_few:
            cases.append(("is quiet where there is little to see", alert.too_few, []))
        for what, series, expected in cases:
            played = [{"series": name, "values": values} for name, values in series.items()]
            text += f"  - name: {alert.name} {what}\n    interval: 1m\n    input_series:\n"
            text += "".join(f"      - {json.dumps(each)}\n" for each in played)
            text += f"    alert_rule_test:\n      - alertname: {alert.name}\n        eval_time: {alert.at}\n"
            text += f"        exp_alerts: {json.dumps(expected)}\n"
    return text


# --- The dashboard ------------------------------------------------------------------------------------------


def _queries(metric: Metric) -> Iterator[tuple[str, str]]:
    """What a panel shows of it, and how its lines are called."""
    name, labels = metric.name, ", ".join(metric.labels)
    named = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    by = f" by ({labels})" if labels else ""
    if metric is metrics.HTTP:
        yield f"sum by (face) (rate({name}_count[5m]))", "{{face}}, a second"
        yield f'sum by (operation, status) (rate({name}_count{{status=~"5.."}}[5m]))', "{{operation}} {{status}}"
        p95 = f"histogram_quantile(0.95, sum by (le, operation) (rate({name}_bucket{{{OURS}}}[5m])))"
        yield f"topk(10, {p95})", "{{operation}}, seconds (95 %)"
    elif metric.kind == Kind.HISTOGRAM:
        yield f"histogram_quantile(0.95, sum by (le) (rate({name}_bucket[5m])))", "95 %"
    elif metric.kind == Kind.COUNTER:
        yield f"{'sum' if metric.counted else 'max'}{by} (rate({name}[5m])) * 60", f"{named} a minute".strip()
    elif name.endswith("_timestamp_seconds"):
        yield f"time() - max ({name})", "seconds ago"
    else:  # where Postgres is away for one process, that shows
        yield f"{'min' if metric is metrics.DB_UP else 'max'}{by} ({name})", named


def dashboard() -> str:
    """docs/ops/dashboard.json, for Grafana's import."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels: list[dict[str, Any]] = []
    for metric in metrics.METRICS:
        for expr, legend in _queries(metric):
            number = len(panels)
            panels.append(
                {
                    "id": number + 1,
                    "type": "timeseries",
                    "title": metric.name,
                    "description": metric.about,
                    "datasource": source,
                    "gridPos": {"h": 8, "w": 8, "x": number % 3 * 8, "y": number // 3 * 8},
                    "targets": [{"refId": "A", "datasource": source, "expr": expr, "legendFormat": legend}],
                }
            )
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    board = {
        "title": "User Service",
        "uid": JOB,
        "schemaVersion": 39,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }
    return json.dumps(board, indent=2) + "\n"


def main() -> None:
    """Print what a service says that nobody uses, for `promtool check metrics`."""
    with tempfile.TemporaryDirectory() as folder:
        metrics.start(Path(folder), ["overloaded"])
        metrics.observe(metrics.HTTP, 0.1, "api", "getConfig", "200")
        read = [metric for metric in metrics.METRICS if not (metric.buckets or metric.counted)]
        sys.stdout.buffer.write(metrics.text((metric, ("x",) * len(metric.labels), 0) for metric in read))


if __name__ == "__main__":
    main()
