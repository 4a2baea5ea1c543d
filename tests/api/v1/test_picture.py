"""Pictures: what the API adds to services/profile/pictures.py. Storage is real."""

import gc
import io
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.utils.timezone import now
from PIL import Image

from accounts.models import DiscardedPicture, User
from accounts.services.profile import pictures
from tests.api.conftest import problem, wrong_fields
from tests.conftest import Api, picture
from tests.services.test_pictures import png_header


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - an address of ours
        content: bytes = answer.read()
        return content


def test_a_picture_comes_out_in_three_sizes_behind_signed_addresses(alices_api: Api) -> None:
    before = alices_api.get("/me").headers["ETag"]
    answer = alices_api.upload(picture(kind="JPEG"), "me.jpg", "image/jpeg")
    assert answer.status_code == 200
    found = answer.json()["picture"]
    assert set(found) == {"url", "sizes", "placeholder"}
    assert len(found["placeholder"]) == 36
    assert found["url"] == found["sizes"]["256"]
    for size, url in found["sizes"].items():
        with Image.open(io.BytesIO(fetch(url))) as image:
            assert image.format == "WEBP"
            assert image.size == (int(size), int(size))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(found["url"].partition("?")[0])
    assert alices_api.get("/me").json()["picture"] == found
    assert alices_api.get("/me").headers["ETag"] != before


def test_a_picture_that_broke_off_or_is_too_large_is_told_so(alices_api: Api) -> None:
    answer = alices_api.upload(picture(kind="JPEG")[:-300], "me.jpg", "image/jpeg")
    problem(answer, 422, "picture_incomplete", "fix_input")
    assert answer.json()["detail"] == "That picture didn't arrive whole. Send it again."
    answer = alices_api.upload(png_header(9000, 9100))
    problem(answer, 413, "picture_too_large", "fix_input")
    assert "up to 10 MB and 50 million pixels" in answer.json()["detail"]


def test_no_upload_stays_on_the_disk(alices_api: Api, settings: Any, tmp_path: Path) -> None:
    """In a container that is memory."""
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 0
    gc.disable()  # when it comes, it finds them
    try:
        statuses = [alices_api.upload(sent).status_code for sent in (picture(), b"no picture")]
        assert (statuses, list(tmp_path.iterdir())) == ([200, 422], [])
    finally:
        gc.enable()


def test_a_picture_can_be_taken_away_twice(alices_api: Api) -> None:
    alices_api.upload(picture())
    for _ in range(2):
        answer = alices_api("DELETE", "/me/picture")
        assert answer.status_code == 204
        assert answer.content == b""
    assert alices_api.get("/me").json()["picture"] is None
    assert DiscardedPicture.objects.count() == 1


def test_a_device_that_is_signed_out_meanwhile_sets_no_picture(
    alices_api: Api, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pictures.store

    def signed_out_meanwhile(user: User, encoded: pictures.Encoded) -> pictures.Prepared:
        user.sessions.update(ended_at=now())
        return store(user, encoded)

    monkeypatch.setattr(pictures, "store", signed_out_meanwhile)
    problem(alices_api.upload(picture()), 401, "session_revoked", "sign_in")
    assert User.objects.get(id=alice.id).picture == ""


def test_the_content_decides_and_not_the_name(alices_api: Api) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        assert alices_api.upload(picture((80, 80), kind), "evil.html", "text/html").status_code == 200, kind


def multipart(*parts: bytes, boundary: str = "frontier") -> dict[str, Any]:
    body = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    return {"body": body, "content_type": f"multipart/form-data; boundary={boundary}"}


FORM = "multipart/form-data; boundary=frontier"
FILE_PART = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.png"'


def put(api: Api, body: bytes, **extra: Any) -> Any:
    return api("PUT", "/me/picture", body, **extra)


def test_a_missing_file_is_refused_by_name(alices_api: Api) -> None:
    other = b'Content-Disposition: form-data; name="photo"; filename="a.png"\r\n\r\n' + picture((8, 8))
    text = b'Content-Disposition: form-data; name="file"\r\n\r\nno file'
    for sent in (multipart(), multipart(other), multipart(text)):
        assert wrong_fields(put(alices_api, **sent)) == {"file": "required"}


def test_another_content_type_is_refused(alices_api: Api) -> None:
    for content_type in ("image/png", "application/json", "application/x-www-form-urlencoded", "", "text/plain"):
        problem(put(alices_api, picture((8, 8)), content_type=content_type), 415, "unsupported_media_type", "fix_input")


def test_a_body_without_a_good_boundary_is_refused(alices_api: Api) -> None:
    for boundary in ("", "; boundary=", "; boundary=é", "; boundary=" + "a" * 300):
        answer = put(alices_api, b"--frontier\r\n", content_type=f"multipart/form-data{boundary}")
        problem(answer, 400, "malformed_body", "fix_input")


def test_a_body_that_is_no_multipart_is_refused(alices_api: Api) -> None:
    bodies = [
        b"garbage",
        b"--frontier",
        b"--frontier\r\n",
        b"--frontier--",
        b"\x00" * 100,
        b"--frontier\r\nContent-Disposition: form-data\r\n\r\nx",
        b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="\x00"\r\n\r\nx\r\n--frontier--',
        FILE_PART + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!\r\n--frontier--",
        b'--frontier\r\nContent-Disposition: form-data; name="\xff\xfe"; filename="\xff"\r\n\r\nx\r\n--frontier--',
        FILE_PART + b"\r\nContent-Type: text/html; charset=\x00\r\n\r\nx\r\n--frontier--",
        b"--frontier\r\n" + b"A: b\r\n" * 2000,
    ]
    found = {body[:90]: put(alices_api, body, content_type=FORM).status_code for body in bodies}
    assert {body: status for body, status in found.items() if status not in {400, 422}} == {}


def test_a_body_that_is_announced_as_too_large_is_refused_unread(alices_api: Api, settings: Any) -> None:
    answer = put(
        alices_api,
        b"--frontier",
        content_type=FORM,
        CONTENT_LENGTH=str(settings.PICTURE_MAX_BYTES * 2),
    )
    problem(answer, 413, "picture_too_large", "fix_input")


def test_an_empty_body_is_refused(alices_api: Api) -> None:
    answer = put(alices_api, b"", CONTENT_TYPE=FORM, CONTENT_LENGTH="0")
    assert wrong_fields(answer) == {"file": "required"}


def test_a_strange_content_length_is_no_error_of_ours(alices_api: Api) -> None:
    found = {
        length: put(alices_api, b"--frontier", content_type=FORM, CONTENT_LENGTH=length).status_code
        for length in ("x", "-1", "1e9", "９", "9" * 30)
    }
    assert {length: status for length, status in found.items() if status not in {400, 413, 422}} == {}


def test_a_file_one_byte_larger_than_allowed_is_refused(alices_api: Api, settings: Any) -> None:
    content = picture((64, 64))
    settings.PICTURE_MAX_BYTES = len(content)
    assert alices_api.upload(content).status_code == 200
    problem(alices_api.upload(content + b"\x00"), 413, "picture_too_large", "fix_input")


def test_many_files_and_fields_are_refused(alices_api: Api) -> None:
    file = b'Content-Disposition: form-data; name="file%d"; filename="a.png"\r\n\r\nx'
    problem(put(alices_api, **multipart(*[file % number for number in range(4)])), 413, "body_too_large")
    field = b'Content-Disposition: form-data; name="f%d"\r\n\r\nx'
    answer = put(alices_api, **multipart(*[field % number for number in range(200)]))
    assert answer.status_code in {400, 413}
    large = b'Content-Disposition: form-data; name="f"\r\n\r\n' + b"x" * 100_000
    assert put(alices_api, **multipart(large)).status_code in {400, 413}


def test_what_is_no_picture_is_refused(alices_api: Api) -> None:
    for content in (b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a", b"\x00" * 100_000):
        problem(alices_api.upload(content), 422, "invalid_picture", "fix_input")
    assert alices_api.get("/me").json()["picture"] is None


def test_a_bomb_is_refused(alices_api: Api) -> None:
    problem(alices_api.upload(png_header(20_000, 20_000)), 413, "picture_too_large", "fix_input")


def test_too_many_pictures_pause(alices_api: Api, limits: Any) -> None:
    limits("picture_per_account=1/3600")
    assert alices_api.upload(picture((64, 64))).status_code == 200
    problem(alices_api.upload(picture((64, 64))), 429, "rate_limited", "retry")


@pytest.fixture
def no_storage(settings: Any) -> None:
    """Nobody listens where the bucket was."""
    changed = {name: {**value} for name, value in settings.STORAGES.items()}
    changed["default"]["OPTIONS"] = {**changed["default"]["OPTIONS"], "endpoint_url": "http://127.0.0.1:9"}
    settings.STORAGES = changed
    assert storages["default"].endpoint_url.endswith(":9")  # type: ignore[attr-defined]


def test_a_storage_that_is_down_leaves_the_old_picture(alices_api: Api, alice: User, no_storage: None) -> None:
    User.objects.update(picture="a" * 48)
    problem(alices_api.upload(picture((64, 64))), 503, "storage_unavailable", "retry")
    alice.refresh_from_db()
    assert alice.picture == "a" * 48
