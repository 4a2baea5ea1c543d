"""The page that the `type` of a problem names."""

import re
from typing import Any

import pytest
from django.test import RequestFactory
from django.utils import translation
from pytest_django import Settings

from accounts.errors import FIELD_ERRORS
from api.catalogue import ACTIONS, SIGNED_OUT, catalogue
from api.errors import CASES, Action
from tests.api.conftest import problem
from tests.conftest import Api


@pytest.fixture
def page(api: Api) -> Any:
    answer = api.client.get("/api/errors")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/html")
    return answer


def test_a_problem_names_its_line(api: Api, settings: Settings) -> None:
    settings.PUBLIC_URL = "https://accounts.example.com"
    body = problem(api.get("/me"), 401, "invalid_token")
    assert body["type"] == "https://accounts.example.com/api/errors#invalid_token"


def test_every_code_has_its_line_with_what_an_app_does(page: Any) -> None:
    text = page.content.decode()
    anchors = re.findall(r'<div id="([a-z_]+)">', text)
    assert len(anchors) == len(set(anchors))
    assert set(anchors) == {kind.code for kind in CASES} | set(FIELD_ERRORS)
    assert set(ACTIONS) == set(Action)
    assert set(SIGNED_OUT) <= set(anchors)


def test_it_may_be_kept_for_each_language(page: Any) -> None:
    assert "public" in page["Cache-Control"]
    assert "Accept-Language" in page["Vary"]
    assert not page.cookies


def test_it_needs_no_script_and_no_foreign_host(page: Any) -> None:
    text = page.content.decode()
    assert "<script" not in text
    assert "style=" not in text
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text) == []


def test_nothing_but_reading_is_answered(api: Api) -> None:
    assert api.client.post("/api/errors").status_code == 405


def test_the_reader_of_another_language_is_told_so(db: None) -> None:
    with translation.override("ar"):
        text = catalogue(RequestFactory().get("/api/errors")).content.decode()
    assert '<html lang="ar" dir="rtl">' in text
