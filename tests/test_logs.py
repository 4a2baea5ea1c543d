"""The id of a request: in each line of the log, and with the tasks that it enqueues."""

import json
import logging
from io import StringIO
from pathlib import Path
from typing import cast

import pytest
import redis
from celery import Celery
from celery.signals import task_postrun, task_prerun
from django.test import Client
from django_guid import clear_guid, get_guid, set_guid

from project.devstack.servers import Valkey
from project.logs import Formatter, Outages
from tests.conftest import Api


@pytest.mark.parametrize("face", ["page", "api"])
def test_a_line_names_its_request(page: Client, api: Api, face: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(Formatter())
    if face == "page":
        form = {"login": "nobody", "password": "x"}
        answer = page.post("/account/login/", form, HTTP_X_REQUEST_ID="order-17.b")
    else:
        answer = api.get("/me", HTTP_X_REQUEST_ID="order-17.b")
    assert answer.headers["X-Request-Id"] == "order-17.b"
    assert " INFO accounts.refused order-17.b refused code=" in caplog.text
    logging.getLogger("accounts").info("afterwards")
    assert " INFO accounts - afterwards" in caplog.text


def test_a_form_of_a_thousand_fields_is_one_line(page: Client) -> None:
    lines = StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(Formatter())
    handler.addFilter(Outages())
    logging.getLogger().addHandler(handler)
    try:
        answer = page.post("/account/login/", {f"f{number}": "x" for number in range(1001)})
    finally:
        logging.getLogger().removeHandler(handler)
    assert answer.status_code == 400
    [line] = lines.getvalue().splitlines()
    assert " WARNING django.security.TooManyFieldsSent " in line


def test_a_task_has_the_id_of_the_request_that_enqueued_it(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        app = Celery("logs", broker=valkey.url, set_as_current=False)

        @app.task(name="logs.task", shared=False)
        def task() -> None:
            """Nothing runs it."""

        set_guid("order-17.b")
        task.apply_async()
        clear_guid()
        with redis.Redis.from_url(valkey.url) as client:
            (message,) = cast("list[bytes]", client.lrange("celery", 0, -1))
    task.push_request(**json.loads(message)["headers"])  # as the worker does
    task_prerun.send(sender=task, task=task)
    assert get_guid() == "order-17.b"
    task_postrun.send(sender=task, task=task)
    assert get_guid() is None
