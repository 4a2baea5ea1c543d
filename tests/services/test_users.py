"""Accounts: making one, the profile, and removing those that were never proved."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models.signals import pre_delete
from django.utils.timezone import now
from post_office.models import Email
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import (
    InvalidInput,
    InvalidPicture,
    PictureIncomplete,
    PictureTooLarge,
    ProfileChanged,
    RateLimited,
    SignUpClosed,
    UsernameTaken,
)
from accounts.models import Challenge, DiscardedPicture, Event, Session, User
from accounts.services.account import email_addresses, signup, users
from accounts.services.authentication import sign_in
from accounts.services.credentials import hashing
from accounts.services.profile import profiles
from accounts.services.security import rate_limits
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox, make_user, picture, random_ip
from tests.threads import each_at_once


def sign_up(caller: Caller, username: str = "dora", **fields: Any) -> User:
    return signup.sign_up(
        **{"username": username, "email": "dora@example.com", "password": PASSWORD, "caller": caller, **fields}
    )


def nobody_was_made() -> bool:
    return not (User.objects.exists() or Challenge.objects.exists() or Event.objects.exists())


# --- Signing up ---------------------------------------------------------------------------------------------


def test_a_new_account_is_a_claim_with_its_event_and_its_mail(db: None, caller: Caller, mailbox: Mailbox) -> None:
    user = sign_up(
        caller, " Dora.D ", email=" Dora@Example.com", first_name="  Dora  Maria ", last_name="D", gender="female"
    )
    user.refresh_from_db()
    assert (user.username, user.email, user.email_verified) == ("dora.d", "dora@example.com", False)
    assert (user.first_name, user.last_name, user.gender) == ("Dora Maria", "D", "female")
    assert (user.is_active, user.is_staff, user.is_superuser, user.picture) == (True, False, False, "")
    assert user.id.version == 7
    assert hashing.matches(user, PASSWORD)
    assert Event.objects.get(user=user).kind == "user.signed_up"
    assert mailbox.last().to == ["dora@example.com"]
    email_addresses.confirm_mine(user=user, code=mailbox.code("dora@example.com"), caller=caller)


def test_names_and_gender_are_optional(db: None, caller: Caller) -> None:
    user = sign_up(caller)
    assert (user.first_name, user.last_name, user.gender) == ("", "", "unspecified")


def test_a_taken_address_looks_the_same_and_its_owner_is_told(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    user = sign_up(caller, email="alice@example.com")
    assert (user.email, user.email_verified) == ("alice@example.com", False)
    (mail,) = mailbox.all()
    assert Challenge.objects.get().email == "alice@example.com", "with a code that stands in no mail"
    assert mail.to == ["alice@example.com"]
    assert "dora" in mail.message
    assert "/confirm-email/" not in mail.message
    alice.refresh_from_db()
    assert alice.email_verified


def test_refuses_when_sign_up_is_closed(db: None, caller: Caller, settings: Settings) -> None:
    settings.SIGNUP_OPEN = False
    with pytest.raises(SignUpClosed):
        sign_up(caller)
    assert nobody_was_made()


@pytest.mark.parametrize(
    ("username", "code"),
    [
        ("ab", "username_length"),
        ("a b c", "username_characters"),
        ("adаm", "username_script"),
        ("Admin", "username_reserved"),
    ],
)
def test_refuses_a_username_that_is_none(db: None, caller: Caller, username: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        sign_up(caller, username)
    assert [error.code for error in refusal.value.errors] == [code]
    assert nobody_was_made()


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("short", "password_too_short"),
        ("x" * 129, "password_too_long"),
        ("1q2w3e4r5t6y", "password_too_common"),
        ("dora@example.com", "password_too_similar"),
    ],
)
def test_refuses_a_bad_password(db: None, caller: Caller, password: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        sign_up(caller, password=password)
    assert [error.code for error in refusal.value.errors] == [code]


@pytest.mark.parametrize("name", ["first_name", "last_name"])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("x" * 81, "name_too_long"),
        ("<b>", "name_characters"),
        ("a>b", "name_characters"),
        ("a\x00b", "name_characters"),
        ("a\x1bb", "name_characters"),
        ("a\ud800b", "name_characters"),
        ("a\ue000b", "name_characters"),
    ],
)
def test_refuses_a_name(alice: User, caller: Caller, name: str, value: str, code: str) -> None:
    works: list[Callable[[], User]] = [
        lambda: sign_up(caller, **{name: value}),
        lambda: profiles.update(user=alice, changes={name: value}, caller=caller),
    ]
    for work in works:
        with pytest.raises(InvalidInput) as refusal:
            work()
        assert [(error.field, error.code) for error in refusal.value.errors] == [(name, code)]


@pytest.mark.parametrize(
    "value", ["x" * 80, "O'Brien", "李", "Ada-Maria Ł.", "{{ 7|add:7 }}", "{% now 'Y' %}", "💩", "'; --"]
)
def test_takes_a_name(db: None, caller: Caller, value: str) -> None:
    user = sign_up(caller, first_name=value, last_name=value)
    user.refresh_from_db()
    assert user.first_name == user.last_name == value


@pytest.mark.parametrize("gender", ["", "Female", "x", "unspecified ", "\x00"])
def test_refuses_a_gender_that_is_not_on_the_list(alice: User, caller: Caller, gender: str) -> None:
    works: list[Callable[[], User]] = [
        lambda: sign_up(caller, gender=gender),
        lambda: profiles.update(user=alice, changes={"gender": gender}, caller=caller),
    ]
    for work in works:
        with pytest.raises(InvalidInput) as refusal:
            work()
        assert [error.code for error in refusal.value.errors] == ["gender_invalid"]


def test_everything_that_is_wrong_is_named_at_once(db: None, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refusal:
        sign_up(caller, "a", email="a", password="a", first_name="<", last_name="<", gender="x")
    assert [error.field for error in refusal.value.errors] == [
        "username", "email", "password", "first_name", "last_name", "gender",
    ]  # fmt: skip
    assert all(str(error.message) for error in refusal.value.errors)
    assert "a@" not in refusal.value.reason


@pytest.mark.parametrize("taken", ["alice", "ALICE", " alice ", "ａｌｉｃｅ", "alıce", "a1ice", "ɑlice"])
def test_refuses_a_username_that_is_taken_or_looks_it(alice: User, caller: Caller, taken: str) -> None:
    with pytest.raises(UsernameTaken):
        sign_up(caller, taken)
    assert User.objects.get() == alice


def test_the_database_alone_refuses_a_second_spelling(alice: User) -> None:
    for fields in (
        {"username": "ALICE", "username_skeleton": "other"},
        {"username": "alice2", "username_skeleton": "alice"},
        {"username": "x", "username_skeleton": "x", "email": "alice@example.com", "email_verified": True},
        {"username": "x", "username_skeleton": "x", "email": "Upper@example.com"},
        {"username": "x", "username_skeleton": "x", "email": "", "email_verified": True},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create(**fields)


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"no picture", InvalidPicture), (picture()[:200], PictureIncomplete), (b"\x00" * 11_000_000, PictureTooLarge)],
)
def test_a_file_that_is_no_picture_makes_no_account(
    db: None, caller: Caller, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        sign_up(caller, picture=io.BytesIO(content))
    assert nobody_was_made()


def test_a_picture_comes_with_the_account(db: None, caller: Caller) -> None:
    user = sign_up(caller, picture=io.BytesIO(picture()))
    assert User.objects.get().picture == user.picture != ""
    assert not DiscardedPicture.objects.exists()


def test_a_network_address_has_its_number_of_sign_ups(db: None, settings: Settings, caller: Caller) -> None:
    rate_limits.limits.cache_clear()
    settings.RATE_LIMITS = ["signup_per_ip=2/3600"]
    try:
        sign_up(caller, "dora")
        with pytest.raises(InvalidInput):
            sign_up(caller, "x")
        with pytest.raises(RateLimited):
            sign_up(caller, "emma")
        assert sign_up(Caller(ip=random_ip()), "emma").username == "emma"
    finally:
        rate_limits.limits.cache_clear()


def test_an_address_that_was_mailed_enough_still_makes_an_account(
    db: None, caller: Caller, mailbox: Mailbox, settings: Settings
) -> None:
    settings.PROOF_OF_WORK = False
    names = [f"dora{letter * 2}" for letter in "abcdefghijkm"]
    for name in names:
        sign_up(caller, name)
    assert User.objects.count() == 12
    assert len(mailbox.all("dora@example.com")) == 10


# --- Many at once -------------------------------------------------------------------------------------------


def _sign_ups(usernames: list[str], emails: list[str]) -> list[User | Exception]:
    def work(username: str, email: str) -> Callable[[], User]:
        return lambda: sign_up(Caller(ip=random_ip()), username, email=email)

    return list(each_at_once([work(*pair) for pair in zip(usernames, emails, strict=True)]))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "spellings",
    [
        ["racer"] * 8,
        ["racer", "Racer", "RACER", "raCer", "racER", "rAcer", "racEr", "RaCeR"],
        ["loo.cal", "1oo.cal", "l0o.cal", "lo0-cal", "loo_cal", "LOO-cal", "ｌｏｏ.cal", "ℓoo.cal"],
    ],
    ids=["same", "case", "look-alike"],
)
def test_eight_sign_ups_with_one_name_make_one_account(spellings: list[str]) -> None:
    found = _sign_ups(spellings, [f"racer{number}@example.com" for number in range(8)])
    losers = [one for one in found if not isinstance(one, User)]
    assert [type(one) for one in losers] == [UsernameTaken] * 7, losers
    assert User.objects.count() == 1
    assert Event.objects.exclude(user=None).count() == Challenge.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_eight_sign_ups_with_one_address_are_eight_claims_and_the_first_proof_holds_it(mailbox: Mailbox) -> None:
    found = _sign_ups([f"racer{letter * 3}" for letter in "abcdefgh"], ["one@example.com"] * 8)
    assert all(isinstance(one, User) for one in found), found
    assert User.objects.filter(email="one@example.com", email_verified=False).count() == 8
    assert len(mailbox.all("one@example.com")) == 8
    holder = User.objects.get(username="racerddd")
    (mail,) = (mail for mail in mailbox.all() if "racerddd" in mail.message)
    code = mail.message.rstrip().rpartition("#")[2]
    email_addresses.confirm_mine(user=holder, code=code, caller=Caller(ip=random_ip()))
    assert User.objects.filter(email="").count() == 7
    assert User.objects.get(email="one@example.com") == holder


@pytest.mark.django_db(transaction=True)
def test_two_who_take_one_name_at_once_by_changing_theirs(alice: User, bob: User) -> None:
    def rename(user: User) -> Callable[[], User]:
        return lambda: profiles.update(user=user, changes={"username": "winner"}, caller=Caller(ip=None))

    found = each_at_once([rename(alice), rename(bob)])
    assert sorted(type(one).__name__ for one in found) == ["User", "UsernameTaken"]


# --- For apps -----------------------------------------------------------------------------------------------


def test_an_app_is_signed_in_with_its_sign_up(db: None, caller: Caller) -> None:
    signed_in = signup.sign_up_app(caller=caller, username="dora", email="dora@example.com", password=PASSWORD)
    assert signed_in is not None
    (session,) = sessions.list_for(signed_in.user)
    assert session.id == signed_in.tokens.session_id


def test_an_app_is_not_signed_in_before_the_proof_where_that_is_mandatory(
    db: None, caller: Caller, settings: Settings
) -> None:
    settings.EMAIL_VERIFICATION = "mandatory"
    made = signup.sign_up_app(caller=caller, username="dora", email="dora@example.com", password=PASSWORD)
    assert made is None
    assert User.objects.get().username == "dora"
    assert not Session.objects.exists()


# --- The profile --------------------------------------------------------------------------------------------


def test_a_change_is_kept_noted_and_gives_a_new_version(alice: User, caller: Caller) -> None:
    before = alice.version
    changes = {"first_name": " Al  ice ", "last_name": "B", "gender": "unspecified", "username": " Alicia "}
    user = profiles.update(user=alice, changes=changes, caller=caller, versions=[before])
    assert (user.first_name, user.last_name, user.gender, user.username) == ("Al ice", "B", "unspecified", "alicia")
    fresh = User.objects.get(id=alice.id)
    assert fresh.username_skeleton == "alicia"
    assert fresh.version == user.version != before
    event = Event.objects.get(user=alice, kind="profile.changed")
    assert event.data == {"fields": ["first_name", "gender", "last_name"]}
    assert Event.objects.get(user=alice, kind="username.changed").data == {}
    assert changes["first_name"] == " Al  ice "  # the caller's own is left as it is


def test_a_change_to_the_same_changes_nothing(alice: User, caller: Caller) -> None:
    user = profiles.update(user=alice, changes={"first_name": "Alice", "username": "ALICE"}, caller=caller)
    assert user.version == User.objects.get(id=alice.id).version == alice.version
    assert not Event.objects.filter(kind="profile.changed").exists()
    assert profiles.update(user=alice, changes={}, caller=caller).version == alice.version


def test_refuses_a_change_to_a_profile_that_was_changed_meanwhile(alice: User, caller: Caller) -> None:
    stale = alice.version
    profiles.update(user=alice, changes={"first_name": "One"}, caller=caller, versions=[stale])
    with pytest.raises(ProfileChanged):
        profiles.update(user=alice, changes={"last_name": "Two"}, caller=caller, versions=[stale])
    with pytest.raises(ProfileChanged):
        profiles.update(user=alice, changes={"last_name": "Two"}, caller=caller, versions=[])
    fresh = User.objects.get(id=alice.id)
    assert (fresh.first_name, fresh.last_name) == ("One", "")


@pytest.mark.django_db(transaction=True)
def test_of_eight_changes_at_once_of_one_version_one_gets_through(alice: User) -> None:
    def change(number: int) -> Callable[[], User]:
        return lambda: profiles.update(
            user=alice, changes={"first_name": f"N{number}"}, caller=Caller(ip=None), versions=[alice.version]
        )

    found = each_at_once([change(number) for number in range(8)])
    assert sorted(type(one).__name__ for one in found) == ["ProfileChanged"] * 7 + ["User"]
    assert Event.objects.filter(kind="profile.changed").count() == 1


@pytest.mark.parametrize("name", ["bob", "BOB", "b0b", "ｂｏｂ"])
def test_refuses_alice_the_name_of_bob(alice: User, bob: User, caller: Caller, name: str) -> None:
    with pytest.raises(UsernameTaken):
        profiles.update(user=alice, changes={"username": name, "first_name": "Bob"}, caller=caller)
    alice.refresh_from_db()
    assert (alice.username, alice.first_name) == ("alice", "Alice")


@pytest.mark.parametrize("name", ["", "ab", "a@b.com", "admin", "a" * 31])
def test_refuses_a_new_username_that_is_none(alice: User, caller: Caller, name: str) -> None:
    with pytest.raises(InvalidInput):
        profiles.update(user=alice, changes={"username": name}, caller=caller)


def test_a_name_that_the_rules_would_no_longer_give_can_stay(db: None, caller: Caller) -> None:
    user = make_user("admin")
    changed = profiles.update(user=user, changes={"username": "admin", "first_name": "Ada"}, caller=caller)
    assert changed.first_name == "Ada"


def test_a_look_alike_of_ones_own_name_may_be_taken(alice: User, caller: Caller) -> None:
    assert profiles.update(user=alice, changes={"username": "a1ice"}, caller=caller).username == "a1ice"


def test_a_change_of_alice_leaves_bob_alone(alice: User, bob: User, caller: Caller) -> None:
    before = bob.version
    profiles.update(user=alice, changes={"first_name": "X", "gender": "male"}, caller=caller)
    bob.refresh_from_db()
    assert (bob.version, bob.first_name) == (before, "")


# --- Staff and switching off --------------------------------------------------------------------------------


def test_an_operator_makes_an_account_with_every_right(db: None) -> None:
    user = users.make_staff(username=" Admin ", email="Ops@Example.com", password=PASSWORD)
    user.refresh_from_db()
    assert (user.username, user.email, user.email_verified) == ("admin", "ops@example.com", True)
    assert user.is_staff
    assert user.is_superuser
    assert hashing.matches(user, PASSWORD)


def test_refuses_an_operator_a_taken_name_or_address(alice: User) -> None:
    for fields in (
        {"username": "ALICE", "email": "new@example.com"},
        {"username": "new", "email": "alice@example.com"},
    ):
        with pytest.raises(UsernameTaken):
            users.make_staff(password=PASSWORD, **fields)
    assert User.objects.count() == 1


def test_refuses_an_operator_a_bad_address_or_password(db: None) -> None:
    with pytest.raises(InvalidInput) as refusal:
        users.make_staff(username="ops", email="x", password="x")
    assert [error.field for error in refusal.value.errors] == ["email", "password"]


@pytest.mark.parametrize("username", ["", "o" * 31, "a@b", "a b"])
def test_refuses_an_operator_a_username_that_is_none(db: None, username: str) -> None:
    with pytest.raises(InvalidInput):
        users.make_staff(username=username, email="ops@example.com", password=PASSWORD)


def test_switching_an_account_off_ends_its_sessions_and_no_others(
    alice: User, bob: User, phone: Session, caller: Caller
) -> None:
    other = sessions.begin(user=bob, kind=Session.Kind.APP, caller=caller)
    users.set_active(user=alice, active=False, caller=caller)
    assert not alice.is_active
    assert not User.objects.get(id=alice.id).is_active
    assert sessions.list_for(alice) == []
    assert sessions.list_for(bob) == [other]
    assert Event.objects.filter(user=alice, kind="user.disabled").count() == 1
    users.set_active(user=alice, active=True, caller=caller)
    assert User.objects.get(id=alice.id).is_active
    assert sessions.list_for(alice) == []
    assert Event.objects.filter(user=alice, kind="user.enabled").count() == 1
    assert sign_in.check(login="alice", password=PASSWORD, caller=caller) == alice


# --- Removing -----------------------------------------------------------------------------------------------


def made_ago(username: str, days: float, **fields: Any) -> User:
    user = make_user(username, verified=fields.pop("verified", False), **fields)
    long_ago = now() - timedelta(days=days)
    User.objects.filter(id=user.id).update(created_at=long_ago, updated_at=long_ago)
    return user


def left() -> set[str]:
    return set(User.objects.values_list("username", flat=True))


def test_only_what_was_never_proved_and_is_old_and_unused_is_removed(caller: Caller, db: None) -> None:
    made_ago("stale", 31)
    made_ago("young", 29)
    made_ago("proved", 31, verified=True)
    made_ago("staff-one", 31, is_staff=True)
    used, unused = made_ago("used", 90), made_ago("unused", 90)
    for user, days in ((used, 29), (unused, 31)):
        session = sessions.begin(user=user, kind=Session.Kind.APP, caller=caller)
        Session.objects.filter(id=session.id).update(last_used_at=now() - timedelta(days=days))
    assert users.remove_unverified() == 2
    assert left() == {"young", "proved", "staff-one", "used"}
    assert users.remove_unverified() == 0


def test_the_lifetime_is_the_operators(db: None, settings: Settings) -> None:
    made_ago("stale", 31)
    settings.UNPROVED_ACCOUNT_LIFETIME = timedelta(days=40)
    assert users.remove_unverified() == 0


def test_with_an_account_go_its_picture_sessions_and_proofs_and_its_log_stays_nameless(
    caller: Caller, db: None
) -> None:
    user = sign_up(caller)
    sessions.begin(user=user, kind=Session.Kind.APP, caller=caller)
    long_ago = now() - timedelta(days=31)
    User.objects.filter(id=user.id).update(created_at=long_ago, updated_at=long_ago, picture="some-key")
    Session.objects.update(last_used_at=now() - timedelta(days=31))
    assert users.remove_unverified() == 1
    assert not Session.objects.exists()
    assert not Challenge.objects.exists()
    assert not Email.objects.exists()
    assert DiscardedPicture.objects.get().key == "some-key"
    assert set(Event.objects.values_list("user", flat=True)) == {None}
    assert sign_up(caller).username == "dora"  # the name is free again


def test_who_proves_the_address_while_others_are_removed_is_spared(db: None) -> None:
    first, second = made_ago("first-one", 32), made_ago("second-one", 31)

    def prove_second(instance: User, **_: Any) -> None:
        if instance.id == first.id:
            User.objects.filter(id=second.id).update(email_verified=True)

    pre_delete.connect(prove_second, sender=User)
    try:
        users.remove_unverified()
    finally:
        pre_delete.disconnect(prove_second, sender=User)
    assert left() == {"second-one"}
