"""A write whose answer was lost is asked again, with the same Idempotency-Key: it is done once and answered twice."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import OperationalError, connection
from django.utils.timezone import now

from accounts.caller import Caller
from accounts.lib import sealing
from accounts.models import Challenge, KeptAnswer, Session, User
from accounts.services.account import deletion
from accounts.services.security import kept_answers
from accounts.services.security.kept_answers import Asked
from tests.api.conftest import CheckedApi, contract, problem, sign_up_body
from tests.api.test_bodies import BODIES, send
from tests.conftest import PASSWORD, Api, Mailbox, random_ip
from tests.factors import App
from tests.threads import at_once

NEW = "another lagoon tractor"
# All that can't simply be asked twice: the others change nothing the second time, or give another of the same.
REPEATABLE = {
    "signUp", "confirmEmail", "confirmMyEmail", "requestEmailChange", "undoEmailChange", "requestPasswordReset",
    "resetPassword", "changePassword", "signIn", "signInByCode", "finishSignIn", "finishPasskeySignIn", "addPasskey",
    "confirmTotp", "signInByProvider", "signUpByProvider", "linkIdentity",
}  # fmt: skip


def twice(api: Api, operation: str, body: dict[str, Any], status: int) -> Any:
    """The answer, which is the same the second time: with the body in another order, and a key in quotes or bare."""
    key = str(uuid4())
    first = send(api, operation, body, HTTP_IDEMPOTENCY_KEY=key)
    assert first.status_code == status, first.content
    again = send(api, operation, dict(reversed(body.items())), HTTP_IDEMPOTENCY_KEY=f'"{key}"')
    assert (again.status_code, again.content) == (status, first.content)
    for name in ("Content-Type", "Cache-Control", "ETag"):
        assert again.headers.get(name) == first.headers.get(name), name
    return first.json() if first.content else None


def test_these_operations_say_so() -> None:
    said = {
        operation["operationId"]
        for operation in contract().operations.values()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ()))
    }
    assert said == REPEATABLE


def test_a_lost_answer_to_a_sign_up_gives_one_account_with_one_device(api: Api, mailbox: Mailbox) -> None:
    tokens = twice(api, "signUp", sign_up_body("ada", device={"name": "Ada's iPhone"}), 201)["tokens"]
    assert (User.objects.count(), Session.objects.count()) == (1, 1)
    assert api.get("/me", token=tokens["access_token"]).json()["username"] == "ada"
    assert api.post("/token/refresh", {"refresh_token": tokens["refresh_token"]}).status_code == 200
    assert len(mailbox.all()) == 1


def test_a_lost_answer_where_the_address_must_be_verified_first(api: Api, mailbox: Mailbox, settings: Any) -> None:
    settings.EMAIL_VERIFICATION = "mandatory"
    twice(api, "signUp", sign_up_body("ada"), 202)
    code = mailbox.code("ada@example.com")
    assert len(mailbox.all()) == 1
    found = twice(api, "confirmEmail", {"email": "ada@example.com", "code": code}, 200)
    assert found["user"]["email_verified"]
    assert Session.objects.count() == 1


def test_a_lost_answer_to_each_step_of_recovery(api: Api, alice: User, mailbox: Mailbox) -> None:
    for field in ("code", "key"):
        twice(api, "requestPasswordReset", {"login": "alice"}, 202)
        proof = mailbox.key() if field == "key" else mailbox.code()
        whose = {} if field == "key" else {"login": "alice"}
        twice(api, "resetPassword", {**whose, field: proof, "new_password": f"{NEW} {field}"}, 204)
        found = twice(api, "signIn", {"login": "alice", "password": f"{NEW} {field}"}, 200)
        assert found["user"]["username"] == "alice"
    assert [mail.subject for mail in mailbox.all()].count("Choose a new Crew password") == 2
    assert alice.sessions.open().count() == 1
    for name in ("alice", "nobody"):  # the same for any name
        twice(api, "requestPasswordReset", {"login": name}, 202)


def test_a_lost_answer_to_a_change_of_address_or_password(bobs_api: Api, bob: User, mailbox: Mailbox) -> None:
    twice(bobs_api, "requestEmailChange", {"email": "new@example.com", "password": PASSWORD}, 202)
    code = mailbox.code("new@example.com")
    assert twice(bobs_api, "confirmMyEmail", {"code": code}, 200)["email"] == "new@example.com"
    assert len(mailbox.all("new@example.com")) == 1
    twice(bobs_api, "changePassword", {"current_password": PASSWORD, "new_password": NEW}, 204)
    undone = twice(bobs_api, "undoEmailChange", {"key": mailbox.key("bob@example.com")}, 200)
    assert send(bobs_api, "resetPassword", {"key": undone["reset_key"], "new_password": PASSWORD}).status_code == 204


def test_a_lost_answer_to_each_step_of_a_sign_in_with_two_factors(
    api: Api, alices_api: Api, alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    setup = alices_api.post("/me/mfa/totp").json()
    app = App(setup["secret"])
    codes = twice(alices_api, "confirmTotp", {"state": setup["state"], "code": app.code()}, 200)["recovery_codes"]
    # A code is used up before the second factor is asked for. Each answer has its own request id.
    api.post("/token/code/request", {"login": "alice"})
    body, key = {"login": "alice", "code": mailbox.code()}, {"HTTP_IDEMPOTENCY_KEY": str(uuid4())}
    first, again = (problem(send(api, "signInByCode", body, **key), 401, "mfa_required") for _ in range(2))
    assert again["ticket"] == first["ticket"]
    assert again["request_id"] != first["request_id"]
    twice(api, "finishSignIn", {"ticket": first["ticket"], "code": codes[0]}, 200)
    assert alice.sessions.open().count() == 2


def test_a_refused_write_is_tried_anew_and_costs_a_try_each_time(api: Api, bob: User, mailbox: Mailbox) -> None:
    key = {"HTTP_IDEMPOTENCY_KEY": str(uuid4())}
    problem(send(api, "signUp", sign_up_body("bob"), **key), 409, "username_taken")
    bob.delete()
    assert send(api, "signUp", sign_up_body("bob"), **key).status_code == 201
    token = send(api, "signIn", {"login": "bob", "password": PASSWORD}).json()["tokens"]["access_token"]
    mailbox.code()
    for _ in range(Challenge.MAX_ATTEMPTS):
        answer = send(api, "confirmMyEmail", {"code": "00000000"}, token=token, HTTP_IDEMPOTENCY_KEY="guess" * 4)
        problem(answer, 400, "invalid_code")
    assert set(Challenge.objects.values_list("attempts", flat=True)) == {Challenge.MAX_ATTEMPTS}
    problem(send(api, "confirmMyEmail", {"code": mailbox.code()}, token=token), 400, "invalid_code")


def test_a_key_that_is_none_or_of_another_request_is_refused(alices_api: Api, alice: User) -> None:
    for operation in REPEATABLE:
        method, path, body = BODIES[operation]
        for wrong in ("", "short", "a" * 15, "a" * 129, '"' + "a" * 20, "a b" * 6, "a\x7f" * 8, "ä" * 16, "null"):
            answer = send(alices_api, operation, body, HTTP_IDEMPOTENCY_KEY=wrong)
            problem(answer, 400, "invalid_idempotency_key", "fix_input")
        whose = alice.id if contract().operations[method, f"/api/v1{path}"].get("security") else ""
        scope, key = f"{method} /api/v1{path} {whose}", str(uuid4())
        assert kept_answers.begin(Asked(scope, key, json.dumps(body, sort_keys=True))) is None
        answer = send(alices_api, operation, body, HTTP_IDEMPOTENCY_KEY=key)
        problem(answer, 409, "request_in_progress", "retry")
        field = next(name for name, value in body.items() if isinstance(value, str))
        answer = send(alices_api, operation, {**body, field: "something else"}, HTTP_IDEMPOTENCY_KEY=key)
        problem(answer, 422, "idempotency_key_reused", "fix_input")


def test_a_key_that_somebody_knows_is_no_way_to_guess(alice: User) -> None:
    """Of what was sent with it: the first other body takes its answer away, and each after that is a try."""
    body = {"login": "alice", "password": PASSWORD}
    key = {"HTTP_IDEMPOTENCY_KEY": str(uuid4()), "REMOTE_ADDR": random_ip()}
    assert Api().post("/token", body, **key).status_code == 200
    wrong = [Api().post("/token", {**body, "password": f"guess {number}"}, **key) for number in range(12)]
    codes = [answer.json()["code"] for answer in wrong]
    assert codes == ["idempotency_key_reused", *["invalid_credentials"] * 10, "rate_limited"]


def test_of_many_at_once_one_is_done(transactional_db: None) -> None:
    key = str(uuid4())
    answers = at_once(
        8, lambda: Api().post("/signup", sign_up_body("ada"), HTTP_IDEMPOTENCY_KEY=key, REMOTE_ADDR="10.1.2.3")
    )
    found = [(answer.status_code, answer.json().get("code")) for answer in answers]  # type: ignore[union-attr]
    assert set(found) <= {(201, None), (409, "request_in_progress")}
    assert (201, None) in found
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1  # type: ignore[union-attr]
    assert (User.objects.count(), Session.objects.count()) == (1, 1)


def test_what_died_with_its_process_is_done_by_the_next(api: Api) -> None:
    key, body = str(uuid4()), sign_up_body("ada")
    asked = Asked("POST /api/v1/signup ", key, json.dumps(body, sort_keys=True))
    assert kept_answers.begin(asked) is None
    problem(send(api, "signUp", body, HTTP_IDEMPOTENCY_KEY=key), 409, "request_in_progress", "retry")
    KeptAnswer.objects.update(begun_at=now() - kept_answers.LEASE - timedelta(seconds=1))
    assert send(api, "signUp", body, HTTP_IDEMPOTENCY_KEY=key).status_code == 201


def test_an_answer_is_kept_for_a_day(api: Api) -> None:
    body, key = sign_up_body("ada"), {"HTTP_IDEMPOTENCY_KEY": str(uuid4())}
    assert send(api, "signUp", body, **key).status_code == 201
    for age, status in ((timedelta(hours=23, minutes=59), 201), (timedelta(hours=24, seconds=1), 409)):
        KeptAnswer.objects.update(begun_at=now() - age)
        assert kept_answers.prune() == (status == 409)
        assert send(api, "signUp", body, **key).status_code == status


def test_another_account_gets_nothing_of_it(alices_api: Api, bobs_api: Api, bob: User, mailbox: Mailbox) -> None:
    """Whether its key is the same by chance or by malice; and a person whose token was refreshed gets it."""
    key, body = {"HTTP_IDEMPOTENCY_KEY": "the-key-of-a-careless-app"}, {"email": "x@example.com", "password": PASSWORD}
    assert send(bobs_api, "requestEmailChange", body, **key).status_code == 202
    code, mails = {"code": mailbox.code("x@example.com")}, len(mailbox.all())
    assert send(bobs_api, "confirmMyEmail", code, **key).json()["username"] == "bob"
    problem(send(alices_api, "confirmMyEmail", code, **key), 400, "invalid_code")
    problem(send(alices_api, "confirmMyEmail", code, **key, token=""), 401, "invalid_token")
    other = send(bobs_api, "signIn", {"login": "bob", "password": PASSWORD}).json()["tokens"]["access_token"]
    assert send(bobs_api, "confirmMyEmail", code, **key, token=other).json()["username"] == "bob"
    assert len(mailbox.all()) >= mails
    bob.sessions.update(ended_at=now())
    problem(send(bobs_api, "confirmMyEmail", code, **key), 401, "session_revoked")


def test_nothing_of_an_answer_can_be_read_without_its_key(api: Api, settings: Any) -> None:
    key, body = str(uuid4()), sign_up_body("zenobia")
    send(api, "signUp", body, HTTP_IDEMPOTENCY_KEY=key)
    with connection.cursor() as cursor:
        cursor.execute("SELECT k::text FROM accounts_keptanswer k")
        [(row,)] = cursor.fetchall()
    [kept] = KeptAnswer.objects.all()
    stored = row.encode() + bytes(kept.mac) + bytes(kept.body_mac) + bytes(kept.sealed or b"")
    for secret in (key, "zenobia", PASSWORD, "access_token", body["email"]):
        assert secret.encode() not in stored
        assert secret.encode().hex() not in row
    asked = Asked("POST /api/v1/signup ", key, json.dumps(body, sort_keys=True))
    assert b"access_token" in (kept_answers.begin(asked) or b"")
    for other in (Asked(asked.scope, str(uuid4()), asked.body), Asked(f"{asked.scope}x", key, asked.body)):
        assert kept_answers.begin(other) is None
    # Nor by who has SECRET_KEY and writes into the table.
    thief = Asked(asked.scope, "the key of a thief who waits", asked.body)
    body_mac = sealing.mac(thief.purpose("body"), thief.body.encode())
    rows = KeptAnswer.objects.filter(mac=kept.mac)
    assert rows.update(mac=sealing.mac("kept answers", thief.name), body_mac=body_mac) == 1
    assert kept_answers.begin(thief) is None
    kept.save()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key of the service", [settings.SECRET_KEY]
    assert b"access_token" in (kept_answers.begin(asked) or b"")


def test_an_answer_is_removed_with_the_account_that_it_tells_of(
    api: Api, bobs_api: Api, bob: User, mailbox: Mailbox
) -> None:
    for app, operation, body in (
        (api, "signUp", sign_up_body("ada")),
        (bobs_api, "requestEmailChange", {"email": "x@example.com", "password": PASSWORD}),
        (api, "signIn", {"login": "bob", "password": PASSWORD}),
    ):
        assert send(app, operation, body, HTTP_IDEMPOTENCY_KEY=str(uuid4())).status_code < 300
    ada = User.objects.get(username="ada")
    assert sorted(KeptAnswer.objects.values_list("user__username", flat=True)) == ["ada", "bob", "bob"]
    deletion.remove(bob)
    deletion.remove(ada)
    assert not KeptAnswer.objects.exists()


def test_a_write_is_answered_though_postgres_went_away_before_its_answer_was_kept(transactional_db: None) -> None:
    def away(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith(('UPDATE "accounts_keptanswer"', 'DELETE FROM "accounts_keptanswer"')):
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, *rest)

    with connection.execute_wrapper(away):
        for status in (201, 409):
            answer = send(CheckedApi(), "signUp", sign_up_body("ada"), HTTP_IDEMPOTENCY_KEY=str(uuid4()))
            assert answer.status_code == status
