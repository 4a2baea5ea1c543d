"""The main job over the API, as an app does it."""

from accounts.services.account import email_requests
from tests.conftest import Api, Mailbox, picture

SIGN_UP = {
    "username": "Ada",
    "email": "Ada@Example.com",
    "password": "plum tractor lagoon",
    "first_name": "Ada",
    "last_name": "Lindqvist",
    "gender": "female",
    "device": {"name": "Ada's iPhone", "platform": "iOS 20", "app_version": "1.0"},
}


def test_sign_up_confirm_picture_refresh_and_reset_by_code(api: Api, mailbox: Mailbox) -> None:
    answer = api.post("/signup", SIGN_UP)
    assert answer.status_code == 201, answer.content
    signed_in = answer.json()
    assert signed_in["user"]["username"] == "ada"
    assert signed_in["user"]["email_verified"] is False
    api.token = signed_in["tokens"]["access_token"]

    answer = api.post("/me/email/confirm", {"code": mailbox.code("ada@example.com")})
    assert answer.status_code == 200, answer.content
    assert answer.json()["email_verified"] is True

    answer = api.upload(picture())
    assert answer.status_code == 200, answer.content
    assert set(answer.json()["picture"]["sizes"]) == {"64", "256", "1024"}

    answer = api.post("/token/refresh", {"refresh_token": signed_in["tokens"]["refresh_token"]})
    assert answer.status_code == 200, answer.content
    refreshed = answer.json()
    assert refreshed["session_id"] == signed_in["tokens"]["session_id"]
    api.token = refreshed["access_token"]

    answer = api.get("/me")
    assert answer.status_code == 200
    assert answer.json()["first_name"] == "Ada"

    assert api.post("/password/forgot", {"login": "ada"}).status_code == 202
    email_requests.answer()
    code = mailbox.code("ada@example.com")
    reset = {"login": "ada", "code": f"{code[:4]} {code[4:]}", "new_password": "another lagoon tractor"}
    answer = api.post("/password/reset", reset)
    assert answer.status_code == 204, answer.content

    assert api.get("/me").json()["code"] == "session_revoked"
    assert api.post("/token/refresh", {"refresh_token": refreshed["refresh_token"]}).json()["code"] == "session_revoked"
    assert api.post("/token", {"login": "ada@example.com", "password": "plum tractor lagoon"}).status_code == 401
    for login in ("ADA", "ada@example.com"):
        answer = api.post("/token", {"login": login, "password": "another lagoon tractor"})
        assert answer.status_code == 200, answer.content
