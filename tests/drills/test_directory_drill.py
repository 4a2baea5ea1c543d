"""Many people sign up at once while the directory is read: every answer's counts are those of some moment, the
last one's exact, and no sign-up waits for another's row. DRILL_PEOPLE=200 for the long run."""

import os
import threading
import time
from collections import Counter

import requests

from tests.conftest import PASSWORD
from tests.e2e.conftest import Service, eventually

PEOPLE = int(os.environ.get("DRILL_PEOPLE", "50"))
GENDERS = ("female", "male", "unspecified")
_WAITING = """
    SELECT query FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event <> 'advisory'
"""


def counts(service: Service, token: str) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {token}"}
    page = requests.get(f"{service.url}/api/v1/users", headers=headers, timeout=180).json()
    return {gender: page[f"count_{gender}"] for gender in GENDERS}


def settled(service: Service, token: str) -> dict[str, int]:
    """The counts as soon as they are those of the table: at once, unless a replica answers (test_scale_drill.py)."""
    rows = service.sql("SELECT gender, count(*) FROM accounts_user WHERE is_active GROUP BY 1")
    real = dict.fromkeys(GENDERS, 0) | {str(gender): int(str(count)) for gender, count in rows}
    return eventually(lambda: found if (found := counts(service, token)) == real else None)


def test_many_sign_ups_at_once_are_counted_exactly_and_wait_for_nobody(service: Service) -> None:
    body = {"username": "counter", "email": "counter@example.com", "password": PASSWORD}
    token = service.post("/signup", body).json()["tokens"]["access_token"]
    before = settled(service, token)
    statuses: list[int] = []
    waiting: Counter[str] = Counter()
    done = threading.Event()

    def sign_up(number: int) -> None:
        body = {
            "username": f"crowd{number}",
            "email": f"crowd{number}@example.com",
            "password": PASSWORD,
            "gender": GENDERS[number % 3],
        }
        statuses.append(requests.post(f"{service.url}/api/v1/signup", json=body, timeout=180).status_code)

    def watch() -> None:
        while not done.is_set():
            waiting.update(str(query) for (query,) in service.sql(_WAITING))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=sign_up, args=(number,)) for number in range(PEOPLE)]
    for thread in threads:
        thread.start()
    seen = [before]
    while any(thread.is_alive() for thread in threads):
        seen.append(counts(service, token))
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert statuses == [201] * PEOPLE
    assert not waiting
    totals = [sum(each.values()) for each in seen]
    assert totals == sorted(totals)
    after = settled(service, token)
    came = Counter(GENDERS[number % 3] for number in range(PEOPLE))
    assert {gender: after[gender] - before[gender] for gender in GENDERS} == came
    assert service.manage("count_users").startswith("Correct: ")
