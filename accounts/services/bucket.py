"""What is put into the bucket and taken out of it.

With boto3 itself where the storage of Django would start threads for every small file."""

from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import storages
from storages.backends.s3 import S3Storage

ERRORS = (BotoCoreError, ClientError, OSError)


def put(key: str, content: bytes, *, content_type: str, cache_control: str) -> None:
    client, name = _client()
    client.put_object(Bucket=name, Key=key, Body=content, ContentType=content_type, CacheControl=cache_control)


def delete(key: str) -> None:
    """Quiet where there is none."""
    client, name = _client()
    client.delete_object(Bucket=name, Key=key)


def _client() -> tuple[Any, str]:
    storage = cast("S3Storage", storages["default"])
    return storage.connection.meta.client, storage.bucket_name
