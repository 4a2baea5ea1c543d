"""A bucket that is not as it should be is told of. Real storages: ours, and some that somebody opened by accident."""

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.lib.storage import bucket, bucket_check
from project.devstack.servers import SeaweedFS
from tests.services.test_pictures import down


def wrong() -> list[str]:
    return [finding.what for finding in bucket_check.findings() if not finding.is_well]


def use(settings: Settings, server: SeaweedFS, *, key: str = "") -> None:
    found = server.environment
    for name in ("default", "public"):
        options = {
            **settings.STORAGES[name]["OPTIONS"],
            "endpoint_url": found["S3_ENDPOINT_URL"],
            "access_key": key or found["S3_ACCESS_KEY_ID"],
            "secret_key": found["S3_SECRET_ACCESS_KEY"],
        }
        settings.STORAGES = {**settings.STORAGES, name: {**settings.STORAGES[name], "OPTIONS": options}}
    settings.S3_PUBLIC_BUCKET_URL = f"{found['S3_ENDPOINT_URL']}/{found['S3_BUCKET']}"


class Open(SeaweedFS):
    """Somebody gave rights to everybody, and there is one more key, which may not list."""

    def prepare(self) -> None:
        super().prepare()
        file = self.folder / "keys.json"
        keys: dict[str, Any] = json.loads(file.read_text())
        ours = keys["identities"][0]
        [credentials] = ours["credentials"]
        unlisted = {**ours, "name": "unlisted", "credentials": [{**credentials, "accessKey": "unlisted"}]}
        keys["identities"] += [
            {"name": "anonymous", "actions": ["Read", "List", "Write"]},
            {**unlisted, "actions": ["Read", "Write"]},
        ]
        file.write_text(json.dumps(keys))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with Open(tmp_path_factory.mktemp("open"), origins="https://elsewhere.example") as server:
        yield server


@pytest.fixture
def our_pages(settings: Settings) -> None:
    """The stack's bucket lets the pages of its own PUBLIC_URL upload, which the museum's tests may have changed."""
    settings.PUBLIC_URL = os.environ["PUBLIC_URL"]


def test_the_bucket_of_the_stack_is_well_and_nothing_is_left_in_it(
    our_pages: None, db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [key for key, _ in bucket.listing("", after="", at_most=100_000)]
    assert wrong() == []
    call_command("check_storage")
    assert "WRONG" not in capsys.readouterr().out
    assert [key for key, _ in bucket.listing("", after="", at_most=100_000)] == before


def test_a_bucket_that_is_public_by_accident_is_told_of(opened: SeaweedFS, settings: Settings, db: None) -> None:
    use(settings, opened)
    found = set(wrong())
    assert found == {
        *(f"nobody reads {folder}/ without a signature" for folder in bucket_check.FOLDERS),
        "nobody lists the bucket",
        "nobody writes without a signature",
        "pages of PUBLIC_URL may upload (CORS)",
    }
    assert all(finding.hint for finding in bucket_check.findings() if not finding.is_well)
    assert [*bucket.listing("", after="", at_most=10)] == []
    with pytest.raises(CommandError, match="7 of these"):
        call_command("check_storage")


def test_a_cdn_that_shows_more_than_pictures_is_told_of(opened: SeaweedFS, settings: Settings) -> None:
    use(settings, opened)
    settings.PICTURE_CDN_URL = settings.S3_PUBLIC_BUCKET_URL
    found = wrong()
    assert "PICTURE_CDN_URL does not show incoming/" in found
    assert "PICTURE_CDN_URL does not show exports/" in found
    assert "PICTURE_CDN_URL shows pictures/" not in found


def test_a_key_that_may_not_list_is_told_of(opened: SeaweedFS, settings: Settings) -> None:
    use(settings, opened)
    assert "this service lists the bucket" not in wrong()  # and now there is a bucket
    use(settings, opened, key="unlisted")
    assert "this service lists the bucket" in wrong()


def test_a_cdn_that_shows_nothing_is_told_of(our_pages: None, settings: Settings) -> None:
    settings.PICTURE_CDN_URL = settings.S3_PUBLIC_BUCKET_URL  # which is private, as it should be
    assert wrong() == ["PICTURE_CDN_URL shows pictures/"]


def test_a_public_address_that_is_another_is_told_of(our_pages: None, settings: Settings) -> None:
    settings.S3_PUBLIC_BUCKET_URL = "http://127.0.0.1:9/pictures"
    assert "a signed address works from here" in wrong()


@pytest.fixture
def in_a_container(settings: Settings) -> None:
    """The storage is published as localhost:9 on the machine outside, and has another name inside."""
    inner = urlsplit(settings.S3_ENDPOINT_URL)
    settings.S3_ENDPOINT_URL = f"http://0.0.0.0:{inner.port}"
    settings.S3_PUBLIC_BUCKET_URL = "http://localhost:9/pictures"
    for name, url in (("default", settings.S3_ENDPOINT_URL), ("public", "http://localhost:9")):
        options = {**settings.STORAGES[name]["OPTIONS"], "endpoint_url": url}
        settings.STORAGES = {**settings.STORAGES, name: {**settings.STORAGES[name], "OPTIONS": options}}


def test_a_container_asks_at_the_inner_address_under_the_public_name(our_pages: None, in_a_container: None) -> None:
    assert urlsplit(bucket.address("pictures/a")).netloc == "localhost:9"
    assert wrong() == []


def test_a_container_still_sees_that_no_page_may_upload(in_a_container: None, settings: Settings) -> None:
    settings.PUBLIC_URL = "https://elsewhere.example"
    assert wrong() == ["pages of PUBLIC_URL may upload (CORS)"]


def test_a_storage_that_is_down_is_said(settings: Settings) -> None:
    down(settings)
    assert storages["default"].endpoint_url.endswith(":9")  # type: ignore[attr-defined]
    with pytest.raises(CommandError, match="can't be reached"):
        call_command("check_storage")
