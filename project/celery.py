"""The Celery app and the schedule. The tasks are in accounts/tasks.py."""

import logging
import os
from typing import Any, cast

from botocore.config import Config
from celery import Celery
from celery.signals import after_task_publish, beat_init, celeryd_init, setup_logging, worker_process_init
from django.conf import settings
from django.db import Error, connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

WRONG = 2 * 3600.0  # seconds that the clocks of beat and worker may differ, or no task of beat would ever run

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["accounts"])


@app.on_after_finalize.connect
def _schedule(sender: Celery, **_: object) -> None:
    poll = float(settings.SWEEP_INTERVAL)
    # A task that waited much longer than the next one is worth nothing.
    for name, every in {
        "accounts.sweep": poll,
        "accounts.check_mail_server": 60.0,
        "accounts.remove_discarded_pictures": 60.0,
        "accounts.sweep_uploads": poll,
        "accounts.remove_uploads": 60.0,
        "accounts.renew_bucket_owner": 300.0,
        "accounts.remove_orphans": 3600.0,
        "accounts.make_exports": 60.0,
        "accounts.remove_expired_exports": 60.0,
        "accounts.erase_due_accounts": 600.0,
        "accounts.keep_signing_keys": 3600.0,
        "accounts.prune": 3600.0,
    }.items():
        sender.conf.beat_schedule[name] = {"task": name, "schedule": every, "options": {"expires": every + WRONG}}


@setup_logging.connect
def _our_log(**_: object) -> None:
    """Django's settings (LOG_LEVEL, LOG_FORMAT) have set the log up; where this signal is heard, Celery does not."""


def _is_news(record: logging.LogRecord) -> bool:
    """Of a task that the schedule calls, only its failure: most find nothing to do, every few seconds."""
    of_task = record.args if isinstance(record.args, dict) else {}
    return record.levelno > logging.INFO or of_task.get("name") not in app.conf.beat_schedule


logging.getLogger("celery.app.trace").addFilter(_is_news)


@worker_process_init.connect
def _traces(**_: object) -> None:
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        from project import tracing  # noqa: PLC0415 - only where it is asked for

        tracing.start()


@celeryd_init.connect
@beat_init.connect
def _patience(**_: object) -> None:
    """The worker waits for a broker that is away and takes up work within seconds of its return, and it has time for
    the storage; the short patience in the settings is that of a web request."""
    app.conf.broker_transport_options = {"socket_connect_timeout": 3, "socket_timeout": 10, "socket_keepalive": True}
    app.conf.broker_connection_max_retries = None
    storage = cast("dict[str, Any]", settings.STORAGES["default"])["OPTIONS"]
    longer = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2, "mode": "standard"})
    storage["client_config"] = storage["client_config"].merge(longer)


@beat_init.connect
def _watch_beat(**_: object) -> None:
    after_task_publish.connect(_note_beat, sender="accounts.sweep", weak=False)


def _note_beat(**_: object) -> None:
    """For GET /metrics: beat has no port."""
    from accounts.models import Seen  # noqa: PLC0415 - after the app is made, which Django's start needs

    try:
        Seen.objects.is_alive(Seen.BEAT)
    except Error as error:  # it does its work without
        logging.getLogger(__name__).warning("beat could not leave its time: %s", type(error).__name__)
        connection.close()
