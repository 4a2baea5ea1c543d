"""A second version beside the first, and what the first says of its end."""

import sys
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.http import HttpRequest
from django.urls import clear_url_caches, include, path
from pytest_django import Settings

from api import errors
from api.parser import StrictParser
from api.v1.responses import VersionedAPI
from tests.api.conftest import problem
from tests.conftest import Api


@pytest.fixture
def v2(settings: Settings) -> Iterator[None]:
    api = VersionedAPI(title="Two", version="2.0.0", urls_namespace="v2-drill", parser=StrictParser())
    errors.install(api)

    @api.get("/hello", operation_id="hello")
    def hello(request: HttpRequest) -> dict[str, Any]:
        return {"version": 2}

    urls = types.ModuleType("tests.two_versions")
    urls.urlpatterns = [path("api/v2/", api.urls), path("", include("project.urls"))]  # type: ignore[attr-defined]
    sys.modules[urls.__name__] = urls
    settings.ROOT_URLCONF = urls.__name__
    clear_url_caches()
    yield
    del sys.modules[urls.__name__]
    clear_url_caches()


def test_a_second_version_answers_beside_the_first(v2: None, api: Api) -> None:
    answer = api.client.get("/api/v2/hello")
    assert (answer.status_code, answer.json()) == (200, {"version": 2})
    assert api.get("/config").status_code == 200
    problem(api.client.get("/api/v2/nothing"), 404, "not_found")
    assert "Deprecation" not in answer


def test_version_one_says_when_it_ends_once_that_is_configured(api: Api, settings: Settings) -> None:
    answer = api.get("/config")
    assert not {"Deprecation", "Sunset", "Link"} & set(answer.headers)
    settings.API_V1_DEPRECATED_AT = datetime(2027, 1, 31, tzinfo=UTC)
    settings.API_V1_SUNSET_AT = datetime(2028, 1, 31, tzinfo=UTC)
    settings.API_V1_SUCCESSOR = "https://accounts.example.com/moving"
    for answer in (api.get("/config"), api.get("/me"), api.get("/nothing")):
        assert answer["Deprecation"] == "@1801353600"
        assert answer["Sunset"] == "Mon, 31 Jan 2028 00:00:00 GMT"
        assert answer["Link"] == '<https://accounts.example.com/moving>; rel="successor-version"'


def test_apps_that_may_open_links_are_named_only_where_there_are_some(api: Api, settings: Settings) -> None:
    for name in ("apple-app-site-association", "assetlinks.json"):
        assert api.get(f"/.well-known/{name}").status_code == 404
    settings.APPLE_APP_IDS = ["TEAM123456.com.example.crew"]
    settings.ANDROID_APPS = ["com.example.crew=AB:CD"]
    apple = api.get("/.well-known/apple-app-site-association")
    assert (apple.status_code, apple["Content-Type"]) == (200, "application/json")
    [detail] = apple.json()["applinks"]["details"]
    assert {"/": "/account/password/reset/key/*"} in detail["components"]
    android = api.get("/.well-known/assetlinks.json")
    assert android["Content-Type"] == "application/json"
    assert android.json()[0]["target"]["sha256_cert_fingerprints"] == ["AB:CD"]
