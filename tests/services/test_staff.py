"""What staff do to an account: who may, what follows, and what both logs say of it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import Caller, Device
from accounts.errors import AccountDisabled, AccountError, InvalidCredentials, LastSuperuser, NotAllowed, OwnAccount
from accounts.models import Challenge, Event, Passkey, Session, User
from accounts.services.account import deletion, email_requests, password_resets, users
from accounts.services.authentication import sign_in, totp
from accounts.services.security import audit
from accounts.services.sessions import sessions
from accounts.services.staff import actions
from tests.conftest import PASSWORD, Mailbox, make_user
from tests.factors import passkey_on, two_step_on
from tests.threads import each_at_once

RULES = [
    actions.disable,
    actions.enable,
    actions.revoke_password,
    actions.end_sessions,
    actions.resend_confirmation,
    actions.call_off_deletion,
    actions.remove_second_factors,
]
every = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
Rule = Callable[..., None]


@pytest.fixture
def clerk(db: None) -> User:
    """Staff with the one right, and no other."""
    made = make_user("clerk", is_staff=True)
    made.user_permissions.add(Permission.objects.get(codename="change_user"))
    return User.objects.get(id=made.id)


@pytest.fixture
def bobs_phone(bob: User) -> Session:
    return sessions.begin(user=bob, kind=Session.Kind.APP, caller=Caller(ip="192.0.2.1", device=Device("Bob's phone")))


def kinds(user: User) -> list[str]:
    return list(Event.objects.filter(user=user).order_by("id").values_list("kind", flat=True))


def prepare(user: User) -> None:
    """Something to do for each rule."""
    User.objects.filter(id=user.id).update(email_verified=False, deletes_at=now())
    sessions.begin(user=user, kind=Session.Kind.APP, caller=Caller(ip=None, device=Device("A phone")))
    Passkey.objects.create(user=user, credential_id=user.id.bytes, credential=b"", synced=True, name="A phone")
    Event.objects.all().delete()


def snapshot(user: User) -> Any:
    row = User.objects.filter(id=user.id).values().get()
    return row, [device.id for device in sessions.list_for(user)], kinds(user), LogEntry.objects.count()


# --- Who may ------------------------------------------------------------------------------------------------


@every
def test_bob_may_do_nothing_to_alice(rule: Rule, alice: User, bob: User, caller: Caller, mailbox: Mailbox) -> None:
    prepare(alice)
    before = snapshot(alice)
    with pytest.raises(NotAllowed):
        rule(staff=bob, user=alice, caller=caller)
    assert snapshot(alice) == before
    assert mailbox.all() == []


@every
@pytest.mark.parametrize(
    "changes", [{"is_staff": False}, {"is_active": False}, {"is_superuser": False}], ids=["staff", "active", "rights"]
)
def test_who_lost_the_right_meanwhile_may_do_nothing(
    rule: Rule, changes: dict[str, bool], alice: User, bob: User, caller: Caller
) -> None:
    make_user("root", is_staff=True, is_superuser=True)
    prepare(bob)
    before = snapshot(bob)
    User.objects.filter(id=alice.id).update(**changes)  # while the page was open
    with pytest.raises(NotAllowed):
        rule(staff=alice, user=bob, caller=caller)
    assert snapshot(bob) == before


@every
def test_the_one_right_is_enough_for_people_and_not_for_staff(
    rule: Rule, clerk: User, alice: User, bob: User, caller: Caller
) -> None:
    rule(staff=clerk, user=bob, caller=caller)
    helper = make_user("helper", is_staff=True)
    for other in (alice, helper):
        before = snapshot(other)
        with pytest.raises(NotAllowed):
            rule(staff=clerk, user=other, caller=caller)
        assert snapshot(other) == before


@pytest.mark.parametrize(
    "rule", [actions.disable, actions.revoke_password, actions.remove_second_factors], ids=lambda rule: rule.__name__
)
def test_nobody_locks_themselves_out(rule: Rule, alice: User, caller: Caller) -> None:
    before = snapshot(alice)
    with pytest.raises(OwnAccount):
        rule(staff=alice, user=alice, caller=caller)
    assert snapshot(alice) == before


def test_the_last_with_every_right_stays(alice: User, caller: Caller) -> None:
    """Whoever acts has every right too, unless they are about to go."""
    root = make_user("root", is_staff=True, is_superuser=True)
    User.objects.filter(id=alice.id).update(deletes_at=now())
    with pytest.raises(LastSuperuser):
        actions.disable(staff=alice, user=root, caller=caller)
    assert User.objects.get(id=root.id).is_active
    User.objects.filter(id=alice.id).update(deletes_at=None)
    actions.disable(staff=alice, user=root, caller=caller)
    assert not User.objects.get(id=root.id).is_active


@pytest.mark.django_db(transaction=True)
def test_two_who_switch_each_other_off_at_once_do_not_both_succeed(caller: Caller) -> None:
    one, two = (make_user(name, is_staff=True, is_superuser=True) for name in ("one", "two"))

    def switch_off(pair: tuple[User, User]) -> str:
        try:
            actions.disable(staff=pair[0], user=pair[1], caller=caller)
        except AccountError as error:
            return error.code
        return "done"

    found = each_at_once([lambda: switch_off((one, two)), lambda: switch_off((two, one))])
    assert sorted(map(str, found)) in (["done", "not_allowed"], ["done", "last_superuser"]), found
    assert User.objects.filter(is_superuser=True, is_active=True).count() == 1


# --- What follows -------------------------------------------------------------------------------------------


def test_an_account_that_is_switched_off_is_signed_out_and_comes_back(
    alice: User, bob: User, bobs_phone: Session, caller: Caller
) -> None:
    for _twice in range(2):
        actions.disable(staff=alice, user=bob, caller=caller)
    assert sessions.list_for(bob) == []
    with pytest.raises(AccountDisabled):
        sign_in.check(login="bob", password=PASSWORD, caller=caller)
    assert kinds(bob) == ["session.started", "session.others_ended", "user.disabled", "login.refused"]
    for _twice in range(2):
        actions.enable(staff=alice, user=bob, caller=caller)
    assert sign_in.check(login="bob", password=PASSWORD, caller=caller) == bob
    assert kinds(bob)[4:] == ["user.enabled"]


def test_a_new_password_is_forced_by_a_mail_and_the_old_one_is_as_wrong_as_any(
    alice: User, bob: User, bobs_phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    password_resets.request_reset(login="bob", caller=caller)
    email_requests.answer()
    earlier = mailbox.key("bob@example.com")
    actions.revoke_password(staff=alice, user=bob, caller=caller)
    assert sessions.list_for(bob) == []
    for wrong in (PASSWORD, "another wrong one", ""):
        with pytest.raises(InvalidCredentials) as refusal:
            sign_in.check(login="bob", password=wrong, caller=caller)
        assert refusal.value.reason == "wrong password"
    assert kinds(bob)[-5:] == ["session.others_ended", "password.revoked", *["login.failed"] * 3]
    with pytest.raises(AccountError):
        password_resets.reset_by_key(key=earlier, new_password="third lagoon tractor", caller=caller)
    mail = mailbox.last("bob@example.com")
    assert "asks you to choose a new password" in mail.message
    code = mailbox.code("bob@example.com")
    password_resets.reset_by_code(login="bob", code=code, new_password="third lagoon tractor", caller=caller)
    assert sign_in.check(login="bob", password="third lagoon tractor", caller=caller) == bob


def test_a_new_password_can_be_forced_where_no_mail_can_go(
    alice: User, bob: User, caller: Caller, mailbox: Mailbox
) -> None:
    User.objects.filter(id=bob.id).update(email="", email_verified=False)
    actions.revoke_password(staff=alice, user=bob, caller=caller)
    assert not User.objects.get(id=bob.id).has_usable_password()
    assert mailbox.all() == []


def test_every_device_is_signed_out_and_the_password_stays(
    alice: User, bob: User, bobs_phone: Session, phone: Session, caller: Caller
) -> None:
    actions.end_sessions(staff=alice, user=bob, caller=caller)
    assert sessions.list_for(bob) == []
    assert sessions.list_for(alice) == [phone]
    assert kinds(bob)[-1] == "session.others_ended"
    assert sign_in.check(login="bob", password=PASSWORD, caller=caller) == bob


def test_staff_may_sign_themselves_out_everywhere(alice: User, phone: Session, caller: Caller) -> None:
    actions.end_sessions(staff=alice, user=alice, caller=caller)
    assert sessions.list_for(alice) == []


def test_the_confirmation_is_mailed_again_to_who_waits_for_it_and_to_nobody_else(
    alice: User, bob: User, carol: User, caller: Caller, mailbox: Mailbox
) -> None:
    actions.resend_confirmation(staff=alice, user=carol, caller=caller)
    assert kinds(carol) == ["email.confirmation_resent"]
    [mail] = mailbox.all()
    assert mail.to == ["carol@example.com"]
    assert Challenge.objects.get().user == carol
    actions.resend_confirmation(staff=alice, user=bob, caller=caller)
    assert (kinds(bob), len(mailbox.all())) == ([], 1)


def test_a_deletion_is_called_off_and_the_owner_is_told(
    alice: User, bob: User, bobs_phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    deletion.request(user=bob, session=bobs_phone, password=PASSWORD, caller=caller)
    for _twice in range(2):
        actions.call_off_deletion(staff=alice, user=bob, caller=caller)
    assert User.objects.get(id=bob.id).deletes_at is None
    assert kinds(bob)[-2:] == ["user.deletion_planned", "user.deletion_cancelled"]
    assert "be deleted, and nothing was lost" in mailbox.last("bob@example.com").message


def test_lost_second_factors_are_removed_and_the_owner_is_told_of_each(
    alice: User, bob: User, bobs_phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    passkey_on(bob, bobs_phone, caller)
    two_step_on(bob, bobs_phone, caller)
    before = len(mailbox.all(bob.email))
    actions.remove_second_factors(staff=alice, user=bob, caller=caller)
    assert totp.overview(bob) == totp.Factors(None, 0, [])
    assert len(mailbox.all(bob.email)) == before + 2
    sign_in.sign_in_app(login="bob", password=PASSWORD, caller=caller)


# --- What both logs say -------------------------------------------------------------------------------------


@every
def test_the_owner_reads_that_staff_did_it_and_operators_who(
    rule: Rule, alice: User, carol: User, caller: Caller, settings: Settings, mailbox: Mailbox
) -> None:
    prepare(carol)
    if rule is actions.enable:
        users.set_active(user=carol, active=False, caller=caller)
        Event.objects.all().delete()
    rule(staff=alice, user=carol, caller=caller)
    written = list(Event.objects.filter(user=carol))
    assert written
    for event in written:
        assert (event.ip, event.device, event.data["by"]) == (None, settings.SITE_NAME, "staff")
    told = f"{[*audit.export(carol)]} {[mail.message for mail in mailbox.all()]}"
    for private in ("alice", str(alice.id), str(caller.ip), "Ada's iPhone"):
        assert private not in told
    [entry] = LogEntry.objects.all()
    assert (entry.user, entry.object_id) == (alice, str(carol.id))
    assert str(caller.ip) in entry.change_message


def test_what_others_do_is_not_marked_as_staffs(alice: User, caller: Caller) -> None:
    audit.record(audit.Kind.PROFILE_CHANGED, user=alice, caller=caller, fields=["gender"])
    assert Event.objects.get().data == {"fields": ["gender"]}


def test_what_fails_stands_in_neither_log(
    alice: User, bob: User, bobs_phone: Session, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(LogEntry.objects, "create", fail)
    before = snapshot(bob)
    with pytest.raises(RuntimeError):
        actions.revoke_password(staff=alice, user=bob, caller=caller)
    assert snapshot(bob) == before
