"""The hint beside a new password says what the rule says."""

import json
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.test import Client, RequestFactory

from accounts.models import User
from accounts.pages import account
from accounts.services.credentials import password_policy
from tests.conftest import random_ip
from tests.passwords import TRIED_FIRST, common, random_words
from tests.web.conftest import words

HINT = "/account/password/hint/"


def hint(page: Client, password: str, *known: str) -> Any:
    answer = page.post(HINT, {"password": password, "about": known})
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    return answer.json()


def test_it_agrees_with_the_rule() -> None:
    differ = []
    for password in (*TRIED_FIRST, *common(), *random_words()):
        problem = password_policy.problem(password, "ada")
        request = RequestFactory(REMOTE_ADDR=random_ip()).post(HINT, {"password": password, "about": ["ada"]})
        request.user = AnonymousUser()
        told = json.loads(account.password_hint(request).content)
        if told["level"] == "weak" if problem is None else told != {"level": "weak", "words": str(problem.message)}:
            differ.append((password, told))
    assert differ == []


def test_it_has_words_for_each_level(page: Client) -> None:
    told = {
        password: hint(page, password, "margaret@lisbon.example")["words"]
        for password in (
            "plum",
            "margaret@lisbon.example",
            "aaaaaaaaaaaaaaaaaaaa",
            "passwordpassword",
            "plum tractor",
            "plum tractor lagoon",
        )
    }
    assert told == {
        "plum": "Use at least 12 characters.",
        "margaret@lisbon.example": "Too similar to your name, username or email address.",
        "aaaaaaaaaaaaaaaaaaaa": "Easy to guess. Add another word.",
        "passwordpassword": "Easy to guess. Add another word.",
        "plum tractor": "Good. One more word makes it strong.",
        "plum tractor lagoon": "Strong.",
    }


def test_it_knows_who_is_signed_in(alices_page: Client, alice: User) -> None:
    User.objects.filter(id=alice.id).update(last_name="Vandermeulen")
    assert hint(alices_page, "vandermeulen12")["level"] == "weak"


def test_it_keeps_nothing_and_has_a_limit(page: Client, limits: Any, caplog: Any) -> None:
    limits("password_hint_per_ip=1/86400")
    hint(page, "plum tractor lagoon")
    answer = page.post(HINT, {"password": "plum tractor lagoon"})
    assert answer.status_code == 429
    assert answer.json()["code"] == "rate_limited"
    assert "plum" not in words(answer) + caplog.text
    assert page.get(HINT).status_code == 405
    assert Client(SERVER_NAME="localhost", enforce_csrf_checks=True).post(HINT, {"password": "x"}).status_code == 403
