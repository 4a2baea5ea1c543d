"""Many people upload pictures at once, straight to the storage: the web process hardly notices, mails go on leaving,
and a worker that is killed meanwhile loses nothing.

DRILL_UPLOADS=100 for the long run; `--log-cli-level=INFO` tells the numbers."""

import io
import logging
import os
import secrets
import time
from functools import partial
from typing import Any

import psutil
import requests
from PIL import Image

from tests.conftest import PASSWORD
from tests.e2e.conftest import Service, eventually
from tests.threads import each_at_once

UPLOADS = int(os.environ.get("DRILL_UPLOADS", "12"))
log = logging.getLogger(__name__)


def photo() -> bytes:
    """Some megabyte of noise, each another one."""
    file = io.BytesIO()
    Image.frombytes("RGB", (800, 800), secrets.token_bytes(800 * 800 * 3)).save(file, "JPEG", quality=90)
    return file.getvalue()


def web(service: Service) -> tuple[float, float]:
    """Megabytes that the web processes have in memory, and those that they have read and written."""
    first = psutil.Process(service.processes["web"].pid)
    processes = [first, *first.children(recursive=True)]
    counts = [process.io_counters() for process in processes]
    memory = sum(process.memory_info().rss for process in processes)
    return memory / 2**20, sum(count.read_chars + count.write_chars for count in counts) / 2**20


class Person:
    def __init__(self, service: Service, name: str) -> None:
        self.service, self.email = service, f"{name}@example.com"
        answer = service.post("/signup", {"username": name, "email": self.email, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        self.token = answer.json()["tokens"]["access_token"]

    def upload(self, content: bytes) -> str:
        """Begun, posted and completed; its id."""
        asked = self.service.post(
            "/me/picture/uploads", {"content_type": "image/jpeg", "size": len(content)}, self.token
        )
        assert asked.status_code == 201, asked.text
        form: dict[str, Any] = asked.json()
        sent = requests.post(form["url"], data=form["fields"], files={"file": ("a.jpg", content)}, timeout=180)
        assert sent.status_code == 204, sent.text
        done = self.service.post(f"/me/picture/uploads/{form['id']}/complete", {}, self.token)
        assert done.status_code == 202, done.text
        return str(form["id"])


def people(service: Service, count: int) -> list[Person]:
    run = secrets.token_hex(3)
    return [Person(service, f"{letters}.{run}") for letters in (f"p{number}x" for number in range(count))]


def left(service: Service) -> int:
    ((count,),) = service.sql("SELECT count(*) FROM accounts_pictureupload WHERE state = 'queued'")
    assert isinstance(count, int)
    return count


def states(service: Service, ids: list[str]) -> set[object]:
    return {row[0] for row in service.sql("SELECT state FROM accounts_pictureupload WHERE id = ANY(%s::uuid[])", ids)}


def upload_at_once(crowd: list[Person]) -> list[str]:
    found = each_at_once([partial(person.upload, photo()) for person in crowd])
    assert not [one for one in found if isinstance(one, Exception)], found
    return [one for one in found if isinstance(one, str)]


def test_many_uploads_at_once_are_not_felt_by_the_web_process(service: Service) -> None:
    crowd = people(service, UPLOADS)
    size = len(photo()) / 2**20
    # What a picture through the web process costs, to see that the measure sees it.
    before = web(service)[1]
    sent = requests.put(
        f"{service.url}/api/v1/me/picture",
        files={"file": ("a.jpg", photo())},
        headers={"Authorization": f"Bearer {crowd[0].token}"},
        timeout=180,
    )
    assert sent.status_code == 200, sent.text
    assert web(service)[1] - before > size

    upload_at_once(crowd[:1])  # whatever is loaded the first time
    memory, traffic = web(service)
    began = time.monotonic()
    ids = upload_at_once(crowd)
    accepted = time.monotonic() - began
    more_memory, more_traffic = (after - was for after, was in zip(web(service), (memory, traffic), strict=True))

    # Mail does not stand behind all these pictures.
    assert service.post("/password/forgot", {"login": crowd[0].email}).status_code == 202
    service.code(crowd[0].email, "Choose a new")
    waiting = left(service)

    eventually(lambda: not left(service), within=max(180, UPLOADS * 20))
    log.info(
        "%s uploads of %.1f MB, accepted in %.1f s, done in %.1f s", UPLOADS, size, accepted, time.monotonic() - began
    )
    log.info(
        "web: %+.1f MB of %.0f in memory, %.2f MB read and written; %s waited as the mail came",
        more_memory,
        memory,
        more_traffic,
        waiting,
    )
    assert states(service, ids) == {"done"}
    assert more_memory < 16
    assert more_traffic < UPLOADS * size / 10
    assert waiting


def test_a_worker_that_is_killed_among_uploads_loses_none(service: Service) -> None:
    crowd = people(service, 4)
    ids = upload_at_once(crowd)
    service.kill("worker")
    service.sql(
        "UPDATE accounts_pictureupload SET claimed_until = now() WHERE claimed_until IS NOT NULL"
    )  # time passes
    service.run_worker("worker")
    eventually(lambda: states(service, ids) == {"done"}, within=600)
    ((count,),) = service.sql(
        "SELECT count(*) FROM accounts_event WHERE kind = 'picture.changed' AND user_id IN"
        " (SELECT user_id FROM accounts_pictureupload WHERE id = ANY(%s::uuid[]))",
        ids,
    )
    assert count == 4
