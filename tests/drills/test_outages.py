"""What stands around the service fails; nobody is refused for it, nothing is lost and nothing doubled."""

import collections
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


def test_a_worker_is_killed_amid_three_hundred_mails(service: Service) -> None:
    """Two workers, one of them killed outright: none lost, at most one doubled."""
    service.run_worker("second")
    service.sql(
        """
        INSERT INTO post_office_email (from_email, "to", cc, bcc, subject, message, html_message, status, priority,
            created, last_updated, scheduled_time, number_of_retries, headers, backend_alias, message_id)
        SELECT 'no-reply@example.com', 'crowd@example.com', '', '', 'number ' || n, 'body', '', 2, 2,
            now(), now(), now() + interval '4 seconds', 0, '{}', '', '<' || n || '@example.com>'
        FROM generate_series(1, 300) n
        """
    )
    sent = "SELECT count(*) FROM post_office_email WHERE 'crowd@example.com' = \"to\" AND status = 0"
    eventually(lambda: 20 < int(str(service.sql(sent)[0][0])) < 280)
    service.kill("second")
    eventually(lambda: service.sql(sent)[0][0] == 300)
    count = collections.Counter(mail["Subject"] for mail in service.letters("crowd@example.com"))
    assert len(count) == 300
    assert sum(count.values()) <= 301
    [[bodies]] = service.sql("SELECT count(*) FROM post_office_email WHERE message <> '' OR html_message <> ''")
    assert bodies == 0
