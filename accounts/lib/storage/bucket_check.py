"""Whether the bucket is as private, and as open, as this service needs it: tried out, because every storage says it in
words of its own. Writes a few small objects and takes them away again."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from botocore.exceptions import ClientError
from django.conf import settings

from accounts.lib.storage import bucket

FOLDERS = ("pictures", "incoming", "exports", "erased")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_CONTENT = b"a trial of manage.py check_storage"


@dataclass(frozen=True)
class Finding:
    """What was tried, and where it is not well, what to do."""

    what: str
    hint: str = ""

    @property
    def is_well(self) -> bool:
        return not self.hint


def findings() -> Iterator[Finding]:
    """One after the other. Raises what `bucket.ERRORS` names where the storage can't be reached at all."""
    name = f"check-storage-{secrets.token_hex(16)}"
    keys = [f"{folder}/{name}" for folder in FOLDERS]
    try:
        for key in keys:
            bucket.put(key, _CONTENT, content_type="text/plain", cache_control="no-store")
        yield from _strangers(keys, name)
        yield from _cdn(keys)
        yield from _ours(keys[0])
        yield from _listed(keys[0])
        yield from _forms(f"incoming/{name}")
        yield from _pages()
    finally:
        for key in (*keys, f"pictures/{name}-by-a-stranger"):
            bucket.delete(key)


def _strangers(keys: list[str], name: str) -> Iterator[Finding]:
    place = settings.S3_PUBLIC_BUCKET_URL
    hint = "The bucket is public. Take its public policy or ACL away (AWS: switch on Block Public Access)."
    for key in keys:
        yield _expect(
            f"nobody reads {key.partition('/')[0]}/ without a signature", _ask(f"{place}/{key}")[0] != 200, hint
        )
    listed, _ = _ask(f"{place}?list-type=2&max-keys=1")
    yield _expect("nobody lists the bucket", listed != 200, hint)
    written, _ = _ask(f"{place}/pictures/{name}-by-a-stranger", "PUT", _CONTENT)
    yield _expect("nobody writes without a signature", written >= 300 or not written, hint)


def _cdn(keys: list[str]) -> Iterator[Finding]:
    if not settings.PICTURE_CDN_URL:
        return
    for key in keys:
        folder, seen = key.partition("/")[0], _ask(f"{settings.PICTURE_CDN_URL}/{key}")[0] == 200
        if folder == "pictures":
            yield _expect("PICTURE_CDN_URL shows pictures/", seen, "Let the CDN read pictures/ with its own identity.")
        else:
            yield _expect(f"PICTURE_CDN_URL does not show {folder}/", not seen, "Let the CDN read pictures/ alone.")


def _ours(key: str) -> Iterator[Finding]:
    status, _ = _ask(bucket.address(key))
    hint = "Look at S3_PUBLIC_ENDPOINT_URL, S3_ADDRESSING_STYLE and S3_REGION, and at the clock of this machine."
    yield _expect("a signed address works from here", status == 200, f"It answers {status or 'nothing'}. {hint}")


def _listed(key: str) -> Iterator[Finding]:
    try:
        found = [name for name, _ in bucket.listing(key, after="", at_most=1)]
    except ClientError:
        found = []
    hint = "Give this service's key the right to list the bucket (s3:ListBucket): it removes what no row names."
    yield _expect("this service lists the bucket", found == [key], hint)


def _forms(key: str) -> Iterator[Finding]:
    form = bucket.form(key, content_type="text/plain", size=len(_CONTENT), lifetime=timedelta(minutes=1))
    wrong, _ = _post(form, _CONTENT + b"!")
    right, _ = _post(form, _CONTENT)
    hint = "The storage does not keep to upload policies: anybody who is signed in could fill the bucket."
    yield _expect("a form takes what it was made for", right in {200, 201, 204}, f"It answers {right or 'nothing'}.")
    yield _expect("and no other size", not 200 <= wrong < 300, hint)


def _pages() -> Iterator[Finding]:
    yield _expect("pages of PUBLIC_URL may upload (CORS)", _may_upload(settings.PUBLIC_URL), _allow("PUBLIC_URL"))
    if origins := settings.CORS_ALLOWED_ORIGINS:
        allowed = all(_may_upload(origin) for origin in origins)
        yield _expect("pages of CORS_ALLOWED_ORIGINS too", allowed, _allow("each of CORS_ALLOWED_ORIGINS"))


def _may_upload(origin: str) -> bool:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    _, headers = _ask(settings.S3_PUBLIC_BUCKET_URL, "OPTIONS", headers=asked)
    return headers.get("Access-Control-Allow-Origin") in {origin, "*"}


def _allow(origins: str) -> str:
    return f"Allow POST from {origins}: docs/bucket.md."


def _expect(what: str, is_so: bool, hint: str) -> Finding:
    return Finding(what, "" if is_so else hint)


def _post(form: bucket.Form, content: bytes) -> tuple[int, Message]:
    edge = secrets.token_hex(16)
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'
        for name, value in form.fields.items()
    ]
    parts.append(f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{content.decode()}')
    body = "\r\n".join([*parts, f"--{edge}--\r\n"]).encode()
    return _ask(form.url, "POST", body, {"Content-Type": f"multipart/form-data; boundary={edge}"})


def _ask(
    address: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Message]:
    """Status and headers; 0 where nobody answers."""
    address, host = _from_here(address)
    request = Request(address, body, {**(headers or {}), **host}, method=method)  # noqa: S310 - of the settings
    try:
        with urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.headers
    except HTTPError as error:
        with error:
            return error.code, error.headers
    except (URLError, OSError):
        return 0, Message()


def _from_here(address: str) -> tuple[str, dict[str, str]]:
    """Where to ask for a public address, and the Host header for it.

    In a container, `localhost` is the container and not the machine that publishes the port. There the storage is asked
    at its inner address under its public name, for which addresses and forms are signed.
    """
    public, inner = urlsplit(address), urlsplit(settings.S3_ENDPOINT_URL or "")
    if public.hostname not in _LOOPBACK or inner.hostname in {None, *_LOOPBACK}:
        return address, {}
    return public._replace(scheme=inner.scheme, netloc=inner.netloc).geturl(), {"Host": public.netloc}
