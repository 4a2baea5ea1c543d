"""Refresh tokens over real HTTP while the network and the processes fail. DRILL_ROUNDS=1000 for the long run."""

import contextlib
import http.client
import json
import os
import random
import socket
import threading
import time

import pytest
import requests

from tests.conftest import PASSWORD
from tests.drills.conftest import PROMPT
from tests.e2e.conftest import Service, eventually

ROUNDS = int(os.environ.get("DRILL_ROUNDS", "6"))


@pytest.fixture(scope="module", autouse=True)
def _walker(service: Service) -> None:
    service.post("/signup", {"username": "walker", "email": "walker@example.com", "password": PASSWORD})
    service.sql("UPDATE accounts_user SET email_verified = true WHERE username = 'walker'")  # notices go to proved ones


def sign_in(service: Service) -> str:
    found: str = service.post("/token", {"login": "walker", "password": PASSWORD}).json()["tokens"]["refresh_token"]
    return found


def refresh(service: Service, token: str) -> requests.Response:
    return service.post("/token/refresh", {"refresh_token": token})


def test_fifty_refreshes_at_once_again_and_again(service: Service) -> None:
    token = sign_in(service)
    with contextlib.ExitStack() as closing:
        connections = [http.client.HTTPConnection("localhost", service.port, timeout=180) for _ in range(50)]
        for connection in connections:
            closing.callback(connection.close)
        for _ in range(ROUNDS):
            token = fifty_at_once(connections, token)


def fifty_at_once(connections: list[http.client.HTTPConnection], token: str) -> str:
    """The one successor that all of them got."""
    answers: list[tuple[int, str]] = []
    barrier = threading.Barrier(len(connections))

    def ask(connection: http.client.HTTPConnection) -> None:
        barrier.wait()
        body = json.dumps({"refresh_token": token})
        connection.request("POST", "/api/v1/token/refresh", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answers.append((answer.status, json.loads(answer.read()).get("refresh_token", "")))

    threads = [threading.Thread(target=ask, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 50
    assert len(set(answers)) == 1, set(answers)
    assert answers[0][0] == 200
    return answers[0][1]


def test_answers_that_are_lost_on_the_way_sign_nobody_out(service: Service) -> None:
    token = sign_in(service)
    for number in range(ROUNDS):
        body = json.dumps({"refresh_token": token}).encode()
        with socket.create_connection(("localhost", service.port)) as phone:
            head = "POST /api/v1/token/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            phone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if number % 2:
                time.sleep(random.random() * 0.01)
        if number % 5 == 4:  # at last it comes through
            answer = refresh(service, token)
            assert answer.status_code == 200, answer.text
            token = answer.json()["refresh_token"]


def test_a_web_process_killed_amid_refreshing_signs_nobody_out(service: Service) -> None:
    token = sign_in(service)
    for _ in range(3):
        stop = time.monotonic() + random.uniform(0.3, 0.8)
        killer = threading.Timer(stop - time.monotonic(), service.kill, args=("web",))
        killer.start()
        with contextlib.suppress(requests.RequestException):
            while True:
                answer = refresh(service, token)
                assert answer.status_code == 200, answer.text
                token = answer.json()["refresh_token"]
        killer.join()
        service.run_web()
        eventually(service.ready)
        answer = refresh(service, token)  # the answer that never came
        assert answer.status_code == 200, answer.text
        token = answer.json()["refresh_token"]


def test_a_copied_token_ends_its_session_within_a_second_and_spares_the_others(service: Service) -> None:
    other, copied = sign_in(service), sign_in(service)
    first = refresh(service, copied).json()
    second = refresh(service, first["refresh_token"]).json()
    # Two minutes pass.
    service.sql(
        "UPDATE accounts_session SET earlier_used_at = ARRAY[now() - interval '2 minutes'] WHERE id = %s",
        second["session_id"],
    )
    begun = time.monotonic()
    assert refresh(service, copied).json()["code"] == "refresh_reused"
    me = requests.get(
        f"{service.url}/api/v1/me", headers={"Authorization": f"Bearer {second['access_token']}"}, timeout=180
    )
    assert (me.status_code, me.json()["code"]) == (401, "session_revoked")
    assert time.monotonic() - begun < PROMPT
    assert refresh(service, second["refresh_token"]).json()["code"] == "session_revoked"
    assert refresh(service, other).status_code == 200
    assert service.text("walker@example.com", "signed out")
    assert service.sql("SELECT count(*) FROM accounts_event WHERE kind = 'session.reused'") == [(1,)]
