"""The bucket: what is put there and taken out, and the addresses and forms with which others do so."""

import hmac
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
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


@lru_cache(maxsize=2)
def _connected(storage: S3Storage) -> Any:
    """One client for all threads, which boto3 allows. django-storages makes one for each thread, and each takes 0.1 to
    0.8 s to make."""
    return storage.connection.meta.client


def _client(storage: str = "default") -> tuple[Any, str]:
    found = cast("S3Storage", storages[storage])
    return _connected(found), found.bucket_name


def put(key: str, content: bytes, *, content_type: str, cache_control: str) -> None:
    client, name = _client()  # Django's storage would start threads for every small file
    client.put_object(Bucket=name, Key=key, Body=content, ContentType=content_type, CacheControl=cache_control)


@dataclass(frozen=True)
class Found:
    size: int
    content_type: str
    age: timedelta  # by the storage's own clock
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
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    age = (parsedate_to_datetime(date) if date else now()) - answer["LastModified"]
    return Found(answer["ContentLength"], answer.get("ContentType", ""), age, answer["Body"])


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


@lru_cache(maxsize=4)
def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def address(key: str) -> str:
    """Works for at most PICTURE_URL_LIFETIME and at least half of it. It is signed as of the last of moments that lie
    half a lifetime apart, so every process gives the same text in between.

    Signed here (AWS Signature Version 4) because boto3 signs with the moment and cannot be given another: each answer
    would name a new address, and no cache would find a picture again. It is also seven times quicker."""
    lifetime = settings.PICTURE_URL_LIFETIME
    step = max(1, lifetime // 2)
    at = datetime.fromtimestamp(int(time()) // step * step, UTC)
    options: Mapping[str, Any] = cast("dict[str, Any]", settings.STORAGES["public"])["OPTIONS"]
    scope = f"{at:%Y%m%d}/{options['region_name']}/s3/aws4_request"
    place = urlsplit(f"{settings.S3_PUBLIC_BUCKET_URL}/{quote(key)}")
    query = urlencode(
        {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{options['access_key']}/{scope}",
            "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": lifetime,
            "X-Amz-SignedHeaders": "host",
        },
        quote_via=quote,
        safe="",
    )
    asked = "\n".join(["GET", place.path, query, f"host:{place.netloc}", "", "host", "UNSIGNED-PAYLOAD"])
    hashed = sha256(asked.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", f"{at:%Y%m%dT%H%M%SZ}", scope, hashed])
    signature = hmac.digest(_key(options["secret_key"], scope), text.encode(), "sha256").hex()
    return f"{place.geturl()}?{query}&X-Amz-Signature={signature}"


@dataclass(frozen=True)
class Form:
    """A POST as multipart/form-data: the fields, and last of all the file as `file`."""

    url: str
    fields: dict[str, str]


def form(key: str, *, content_type: str, size: int, lifetime: timedelta) -> Form:
    """Let the holder put one object of this name, type and size into the bucket."""
    client, name = _client("public")
    kind = {"Content-Type": content_type}
    signed = client.generate_presigned_post(
        name,
        key,
        Fields=kind,
        Conditions=[kind, ["content-length-range", size, size]],
        ExpiresIn=int(lifetime.total_seconds()),
    )
    # The policy does not bind the host: at AWS boto3 names another than the one that our pages may send to.
    return Form(settings.S3_PUBLIC_BUCKET_URL, signed["fields"])
