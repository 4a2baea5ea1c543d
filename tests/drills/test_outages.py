"""What stands around the service fails; nobody is refused for it, nothing is lost and nothing doubled."""

import time

from tests.conftest import PASSWORD
from tests.drills.conftest import PROMPT
from tests.e2e.conftest import Service, eventually


def sign_up(service: Service, name: str) -> tuple[int, float]:
    begun = time.monotonic()
    answer = service.post("/signup", {"username": name, "email": f"{name}@example.com", "password": PASSWORD})
    return answer.status_code, time.monotonic() - begun


def forgot(service: Service, name: str) -> tuple[int, float]:
    begun = time.monotonic()
    answer = service.post("/password/forgot", {"login": name})
    return answer.status_code, time.monotonic() - begun


def test_valkey_is_away(service: Service) -> None:
    assert sign_up(service, "before")[0] == 201
    eventually(lambda: service.letters("before@example.com"))
    service.valkey.stop()
    try:
        for name in ("dora", "emil"):
            status, seconds = sign_up(service, name)
            assert (status, seconds < PROMPT) == (201, True), seconds
        status, seconds = forgot(service, "before")
        assert (status, seconds < PROMPT) == (202, True), seconds
    finally:
        service.valkey.start()
    eventually(lambda: service.letters("dora@example.com"))
    eventually(lambda: service.letters("emil@example.com"))
    eventually(lambda: len(service.letters("before@example.com")) == 2)


def test_the_mail_server_is_away(service: Service) -> None:
    service.mail.stop()
    names = [f"friend.{letter}" for letter in "abcdefgh"]
    for name in names:
        status, seconds = sign_up(service, name)
        assert (status, seconds < PROMPT) == (201, True), seconds
    time.sleep(3)
    service.mail.start()
    for name in names:
        eventually(lambda name=name: service.letters(f"{name}@example.com"))  # type: ignore[misc]
    time.sleep(2)
    assert [len(service.letters(f"{name}@example.com")) for name in names] == [1] * len(names)
