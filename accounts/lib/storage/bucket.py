"""The bucket: what is put there and taken out, and the addresses and forms with which others do so.

These are signed here (AWS Signature Version 4) and not by boto3, which signs with the moment: every answer would name
another address, and no phone's cache would ever find a picture again. Nor does a web process need a client then, whose
first use in each thread takes half a second."""

import hmac
import json
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import chain, islice, takewhile
from time import time
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlencode, urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core.files.storage import storages
from django.utils.timezone import now
from storages.backends.s3 import S3Storage

ERRORS = (BotoCoreError, ClientError, OSError)

# --- Ourselves ----------------------------------------------------------------------------------------------


def _client() -> tuple[Any, str]:
    storage = cast("S3Storage", storages["default"])
    return storage.connection.meta.client, storage.bucket_name


def put(key: str, content: bytes, *, content_type: str, cache_control: str) -> None:
    client, name = _client()  # Django's storage would start threads for every small file
    client.put_object(Bucket=name, Key=key, Body=content, ContentType=content_type, CacheControl=cache_control)


@dataclass(frozen=True)
class Found:
    size: int
    content_type: str
    body: BinaryIO


def get(key: str) -> Found | None:
    """An object, whose body is not read yet."""
    client, name = _client()
    try:
        answer = client.get_object(Bucket=name, Key=key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
            return None
        raise
    return Found(answer["ContentLength"], answer.get("ContentType", ""), answer["Body"])


def delete(key: str) -> None:
    """Quiet where there is none."""
    client, name = _client()
    client.delete_object(Bucket=name, Key=key)


def delete_many(keys: Sequence[str]) -> int:
    """At most a thousand. How many are gone."""
    if not keys:
        return 0
    client, name = _client()
    answer = client.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
    return len(keys) - len(answer.get("Errors", []))


Item = tuple[str, datetime]


def listing(prefix: str, *, after: str, at_most: int) -> Iterator[Item]:
    """(key, when it was written) in the order of keys, from `after` on."""
    client, name = _client()
    while at_most > 0:
        page = client.list_objects_v2(Bucket=name, Prefix=prefix, StartAfter=after, MaxKeys=min(1000, at_most))
        for item in page.get("Contents", []):
            yield item["Key"], item["LastModified"]
            after, at_most = item["Key"], at_most - 1
        if not page.get("IsTruncated"):
            return


def older_than(age: timedelta, prefix: str, *, at_most: int) -> Iterator[list[str]]:
    """Keys of objects that were written so long ago, in pages. It begins anywhere, so that each has its turn however
    many there are: behind `prefix` every key of ours begins by chance."""
    start = f"{prefix}{secrets.token_hex(4)}"

    def is_before(item: Item) -> bool:
        return item[0] <= start

    behind = listing(prefix, after=start, at_most=at_most)
    before = takewhile(is_before, listing(prefix, after="", at_most=at_most))
    old = (key for key, at in chain(behind, before) if at < now() - age)
    while page := list(islice(old, 1000)):
        yield page


# --- Others, with our signature -----------------------------------------------------------------------------


def _scope(at: datetime) -> str:
    return f"{at:%Y%m%d}/{_options()['region_name']}/s3/aws4_request"


def _options() -> Mapping[str, Any]:
    found: Mapping[str, Any] = cast("dict[str, Any]", settings.STORAGES["public"])["OPTIONS"]
    return found


@lru_cache(maxsize=4)
def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _sign(at: datetime, text: str) -> str:
    return hmac.digest(_key(_options()["secret_key"], _scope(at)), text.encode(), "sha256").hex()


def address(key: str) -> str:
    """Works for at most PICTURE_URL_LIFETIME and at least half of it. It is signed as of the last of moments that lie
    half a lifetime apart, so every process gives the same text in between."""
    lifetime = settings.PICTURE_URL_LIFETIME
    step = max(1, lifetime // 2)
    at = datetime.fromtimestamp(int(time()) // step * step, UTC)
    place = urlsplit(f"{settings.S3_PUBLIC_BUCKET_URL}/{quote(key)}")
    query = urlencode(
        {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{_options()['access_key']}/{_scope(at)}",
            "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": lifetime,
            "X-Amz-SignedHeaders": "host",
        },
        quote_via=quote,
        safe="",
    )
    asked = "\n".join(["GET", place.path, query, f"host:{place.netloc}", "", "host", "UNSIGNED-PAYLOAD"])
    hashed = sha256(asked.encode()).hexdigest()
    signature = _sign(at, "\n".join(["AWS4-HMAC-SHA256", f"{at:%Y%m%dT%H%M%SZ}", _scope(at), hashed]))
    return f"{place.geturl()}?{query}&X-Amz-Signature={signature}"


@dataclass(frozen=True)
class Form:
    """A POST as multipart/form-data: the fields, and last of all the file as `file`."""

    url: str
    fields: dict[str, str]


def form(key: str, *, content_type: str, size: int, lifetime: timedelta) -> Form:
    """Lets whoever has it put one object of this name, type and size into the bucket."""
    at = now()
    fields = {
        "key": key,
        "Content-Type": content_type,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{_options()['access_key']}/{_scope(at)}",
        "x-amz-date": f"{at:%Y%m%dT%H%M%SZ}",
    }
    conditions: list[Any] = [{"bucket": settings.S3_BUCKET}, *({name: value} for name, value in fields.items())]
    conditions.append(["content-length-range", size, size])
    policy = {"expiration": f"{at + lifetime:%Y-%m-%dT%H:%M:%S.000Z}", "conditions": conditions}
    encoded = b64encode(json.dumps(policy).encode()).decode()
    fields |= {"policy": encoded, "x-amz-signature": _sign(at, encoded)}
    return Form(settings.S3_PUBLIC_BUCKET_URL, fields)
