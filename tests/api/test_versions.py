"""A second version beside the first, and what the first says of its end."""

from datetime import UTC, datetime

from pytest_django import Settings

from tests.api.conftest import problem
from tests.conftest import Api


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
