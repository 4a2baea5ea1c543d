"""After a deletion, a search of everything that this service keeps for the person's name, names, addresses, id,
device and network finds nothing but the tombstone."""

import io
import json
import random
from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session as BrowserSession
from django.core.files.storage import storages
from django.db import connection
from django.test import Client
from django.utils.timezone import now
from post_office.models import Email
from storages.backends.s3 import S3Storage

from accounts.caller import Caller, Device
from accounts.errors import AccountError, InvalidCredentials
from accounts.lib.storage import bucket as bucket_service
from accounts.models import Budget, Event, Export, Session, Tombstone, User
from accounts.services import mail
from accounts.services.account import (
    deletion,
    email_addresses,
    email_requests,
    export,
    password_resets,
    sign_in_codes,
    signup,
)
from accounts.services.authentication import sign_in
from accounts.services.profile import exports, picture_uploads, pictures, profiles
from accounts.services.security import rate_limits
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox, picture, random_ip

NETWORK = f"2001:db8:{random.randrange(0x1000, 0xFFFF):x}:{random.randrange(0x1000, 0xFFFF):x}::77"
HERS = Caller(ip=NETWORK, user_agent="Crew/1.0", device=Device("Zenobia's iPhone", "iOS 20", "1.0"))
NEEDLES = ("zenobia", "quillfeather", "palmyra@example.com", "before@example.net", NETWORK)
NEW = "another lagoon tractor"


def dump() -> Iterator[tuple[str, str]]:
    """(table, row as text) of the whole database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        tables = [row[0] for row in cursor.fetchall()]
        for table in tables:
            cursor.execute(f'SELECT t::text FROM "{table}" t')  # noqa: S608 - names from the catalogue
            for (row,) in cursor.fetchall():
                yield table, row


def browsers() -> Iterator[tuple[str, str]]:
    for row in BrowserSession.objects.all():
        yield "a browser's session, opened", json.dumps(row.get_decoded())


def bucket() -> Iterator[tuple[str, str]]:
    storage = cast("S3Storage", storages["default"])
    for item in storage.bucket.objects.all():
        yield "bucket", item.key


def valkey() -> Iterator[tuple[str, str]]:
    client: Any = redis.Redis.from_url(django_settings.REDIS_URL)
    for key in client.scan_iter():
        kind = client.type(key)
        read = {
            b"string": client.get,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        }[kind]
        yield "Valkey", f"{key!r} {read(key)!r}"


def found(*needles: str) -> set[tuple[str, str]]:
    """{(place, needle)}"""
    return {
        (place, needle)
        for look in (dump, browsers, bucket, valkey)
        for place, text in look()
        for needle in needles
        if needle.lower() in text.lower()
    }


def a_life(mailbox: Mailbox) -> User:
    """Somebody who uses everything and leaves traces everywhere."""
    user = signup.sign_up(
        username="zenobia",
        email="before@example.net",
        password=PASSWORD,
        first_name="Zenobia",
        last_name="Quillfeather",
        caller=HERS,
    )
    email_addresses.confirm_mine(user=user, code=mailbox.code("before@example.net"), caller=HERS)
    pictures.replace(user=user, file=io.BytesIO(picture()), caller=HERS)
    upload, _ = picture_uploads.begin(user=user, content_type="image/png", size=9, caller=HERS)
    bucket_service.put(upload.key, b"no upload", content_type="image/png", cache_control="no-store")
    phone = sign_in.sign_in_app(login="zenobia", password=PASSWORD, caller=HERS).tokens
    sessions.refresh(refresh_token=phone.refresh_token, caller=HERS)
    for name in ("zenobia", "zenobia@example.org"):  # once as herself, once as nobody
        with pytest.raises(InvalidCredentials):
            sign_in.check(login=name, password="wrong", caller=HERS)
    email_addresses.request_change(user=user, email="palmyra@example.com", password=PASSWORD, caller=HERS)
    email_addresses.confirm_mine(user=user, code=mailbox.code("palmyra@example.com"), caller=HERS)
    password_resets.request_reset(login="palmyra@example.com", caller=HERS)
    email_requests.answer()
    with pytest.raises(AccountError):
        password_resets.reset_by_code(login="zenobia", code="00000000", new_password=NEW, caller=HERS)
    password_resets.reset_by_code(
        login="zenobia", code=mailbox.code("palmyra@example.com"), new_password=NEW, caller=HERS
    )
    sign_in_codes.request(login="zenobia", caller=HERS)  # which no worker answers
    user.refresh_from_db()
    profiles.update(user=user, changes={"first_name": "Zenobia B."}, caller=HERS)
    export.request(user=user, caller=HERS)
    export.make_queued()
    mail.deliver()
    password_resets.request_reset(login="zenobia", caller=HERS)
    email_requests.answer()  # and one mail that waits
    return user


def browse(user: User) -> Client:
    """Her browser, and one in which somebody only typed her address."""
    agent = {"REMOTE_ADDR": NETWORK, "HTTP_USER_AGENT": "Mozilla/5.0 Firefox/140.0"}
    client = Client(SERVER_NAME="localhost", **agent)  # type: ignore[arg-type]
    assert client.post("/account/login/", {"login": "zenobia", "password": NEW}).status_code == 302
    for path, field in (("password/reset/", "email"), ("login/code/", "login")):
        visitor = Client(SERVER_NAME="localhost", **agent)  # type: ignore[arg-type]
        assert visitor.post(f"/account/{path}", {field: " Palmyra@example.com"}).status_code == 302
    return client


def administer(user: User, staff: User) -> None:
    LogEntry.objects.create(
        user=staff,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(user.id),
        object_repr=str(user),
        action_flag=CHANGE,
    )


def test_a_search_for_the_person_finds_nothing_but_the_tombstone(alice: User, bob: User, mailbox: Mailbox) -> None:
    others = Caller(ip=random_ip(), device=Device("Bob's phone"))
    sessions.begin(user=bob, kind=Session.Kind.APP, caller=others)
    user = a_life(mailbox)
    client = browse(user)
    administer(user, alice)
    needles = (*NEEDLES, str(user.id), user.id.hex)
    rate_limits.spend("reset_mail_per_login", "palmyra@example.com")
    subjects = (user.id, "zenobia", "palmyra@example.com")
    mine = {rate_limits._key(name, str(who)) for name in rate_limits.limits() for who in subjects}
    mine |= {rate_limits._key("wrong_password_per_account", f"palmyra@example.com {place}") for place in (0, 1)}
    assert Budget.objects.filter(key__in=mine).exists()
    before = found(*needles)
    assert {needle for _, needle in before} >= {*NEEDLES, str(user.id)}  # the search finds what there is
    places = {place for place, _ in before}
    assert {"accounts_user", "accounts_event", "accounts_challenge", "post_office_email"} <= places
    assert {"django_admin_log", "a browser's session, opened"} <= places
    objects = sum(1 for _ in bucket())
    keys = (user.picture, Export.objects.get().key)
    assert {needle for _, needle in found(*keys)} == set(keys)

    assert client.post("/account/delete/").status_code == 302
    User.objects.filter(id=user.id).update(deletes_at=now())
    assert deletion.erase_due() == 1
    pictures.remove_discarded()
    picture_uploads.remove_old()
    exports.remove_expired()
    assert "is deleted" in Email.objects.get(to=["palmyra@example.com"]).subject
    mail.deliver()

    assert found(*needles, *keys) == set()
    assert not Budget.objects.filter(key__in=mine).exists()
    assert sum(1 for _ in bucket()) == objects - 5 + 1  # the note for a restored backup, which names nobody
    assert Tombstone.objects.count() == 1
    assert Event.objects.filter(kind="user.signed_up", user=None).exists()  # it happened, to nobody
    # The others are as they were.
    assert bob.sessions.open().count() == 1
    assert set(User.objects.all()) == {alice, bob}
