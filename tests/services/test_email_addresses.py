import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils.timezone import now
from post_office.models import STATUS, Email, RecipientDeliveryStatus
from pytest_django import Settings

from accounts.caller import Caller
from accounts.errors import (
    InvalidCode,
    InvalidInput,
    InvalidKey,
    RateLimited,
    SessionRevoked,
    WrongPassword,
)
from accounts.models import Budget, Challenge, Event, Session, User
from accounts.services.account import email_addresses, email_requests, password_resets, signup
from accounts.services.mail import Delivery
from accounts.services.sessions import sessions
from tests.conftest import PASSWORD, Mailbox, make_user, random_ip
from tests.threads import each_at_once

SHARED = "shared@example.com"


def sign_up(username: str, email: str = SHARED) -> User:
    user = signup.sign_up(
        username=username, email=email, password=PASSWORD, caller=Caller(ip=random_ip(), user_agent="test")
    )
    assert seen(user) == (email, Delivery.QUEUED), "while the worker has not written it yet"
    email_requests.answer()
    return user


def code_of(user: User, mailbox: Mailbox) -> str:
    """The code in the mail that names this user."""
    found = [str(mail.message) for mail in mailbox.all() if user.username in mail.message]
    return found[-1].strip()[-8:]


def test_the_code_proves_the_claim(caller: Caller, mailbox: Mailbox, db: None) -> None:
    user = sign_up("ada")
    assert User.objects.get(id=user.id).email_verified is False
    email_addresses.confirm_mine(user=user, code=mailbox.code(SHARED), caller=caller)
    assert User.objects.get(id=user.id).email_verified is True
    assert Event.objects.filter(user=user, kind="email.confirmed").count() == 1


def welcomes(mailbox: Mailbox) -> list[str]:
    return [mail.to[0] for mail in mailbox.all() if mail.subject.startswith("Welcome")]


def test_a_newcomer_is_welcomed_once(caller: Caller, mailbox: Mailbox, db: None) -> None:
    user = sign_up("ada")
    assert welcomes(mailbox) == []
    email_addresses.confirm_mine(user=user, code=mailbox.code(SHARED), caller=caller)
    assert welcomes(mailbox) == [SHARED]
    email_addresses.request_change(user=user, email="ada.new@example.com", password=PASSWORD, caller=caller)
    email_addresses.confirm_mine(user=user, code=mailbox.code("ada.new@example.com"), caller=caller)
    assert User.objects.get(id=user.id).email == "ada.new@example.com"
    assert welcomes(mailbox) == [SHARED]


def test_who_corrects_the_address_before_the_first_proof_is_welcomed_at_the_right_one(
    caller: Caller, mailbox: Mailbox, db: None
) -> None:
    user = sign_up("ada")
    email_addresses.request_change(user=user, email="ada@example.com", password=PASSWORD, caller=caller)
    email_addresses.confirm_mine(user=user, code=mailbox.code("ada@example.com"), caller=caller)
    assert welcomes(mailbox) == ["ada@example.com"]


def test_a_change_is_cancelled_and_its_code_and_link_stop_working(
    alice: User, phone: Session, caller: Caller, mailbox: Mailbox
) -> None:
    for again in (1, 2):  # and asked for again
        email_addresses.request_change(user=alice, email="new@example.com", password=PASSWORD, caller=caller)
        code, key = mailbox.code("new@example.com"), mailbox.key("new@example.com")
        email_addresses.cancel_change(user=alice, session=phone, caller=caller)
        with pytest.raises(InvalidCode):
            email_addresses.confirm_mine(user=alice, code=code, caller=caller)
        with pytest.raises(InvalidKey):
            email_addresses.confirm_by_key(key=key, caller=caller)
        email_addresses.send_again(user=alice, email="new@example.com", caller=caller)
        assert len(mailbox.all("new@example.com")) == again
        assert email_addresses.progress(alice) is None
        assert Event.objects.filter(user=alice, kind="email.change_cancelled").count() == again
    assert User.objects.get(id=alice.id).email == alice.email


def test_there_is_no_change_to_cancel_and_nothing_is_written(
    carol: User, bob: User, caller: Caller, mailbox: Mailbox
) -> None:
    """Bob cancels his own alone, and the proof of a first address is no change."""
    email_addresses.send_again(user=carol, email=carol.email, caller=caller)
    code = mailbox.code(carol.email)
    for user in (carol, bob):
        session = sessions.begin(user=user, kind=Session.Kind.APP, caller=caller)
        email_addresses.cancel_change(user=user, session=session, caller=caller)
        session.end(at=now())
        with pytest.raises(SessionRevoked):
            email_addresses.cancel_change(user=user, session=session, caller=caller)
    email_addresses.confirm_mine(user=carol, code=code, caller=caller)
    assert not Event.objects.filter(kind="email.change_cancelled").exists()


def test_a_late_worker_does_not_end_the_code_of_the_address_that_was_corrected(
    caller: Caller, mailbox: Mailbox, db: None
) -> None:
    user = signup.sign_up(username="ada", email=SHARED, password=PASSWORD, caller=caller)
    email_addresses.request_change(user=user, email="ada@example.com", password=PASSWORD, caller=caller)
    assert email_requests.answer() == 1
    assert mailbox.all(SHARED) == []
    email_addresses.confirm_mine(user=user, code=mailbox.code("ada@example.com"), caller=caller)


def test_who_takes_a_squatters_account_over_is_not_welcomed(caller: Caller, mailbox: Mailbox, db: None) -> None:
    user = sign_up("ada")
    password_resets.request_reset(login=SHARED, caller=caller)
    email_requests.answer()
    password_resets.reset_by_code(
        login=SHARED, code=mailbox.code(SHARED), new_password="lagoon tractor violet", caller=caller
    )
    assert User.objects.get(id=user.id).email_verified
    assert welcomes(mailbox) == []


def test_the_link_proves_it_after_any_number_of_looks_and_once(caller: Caller, mailbox: Mailbox, db: None) -> None:
    user = sign_up("ada")
    key, code = mailbox.key(SHARED), mailbox.code(SHARED)
    for _ in range(3):
        assert email_addresses.match_key(key).user == user
    user.refresh_from_db()
    assert not user.email_verified
    assert email_addresses.confirm_by_key(key=key, caller=caller).email_verified
    with pytest.raises(InvalidKey):
        email_addresses.confirm_by_key(key=key, caller=caller)
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=user, code=code, caller=caller)


def test_bob_cannot_prove_with_adas_code(bob: User, caller: Caller, mailbox: Mailbox) -> None:
    sign_up("ada")
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=bob, code=mailbox.code(SHARED), caller=caller)


def test_the_first_of_several_to_prove_an_address_holds_it_and_the_others_lapse(
    caller: Caller, mailbox: Mailbox, db: None
) -> None:
    ada, eve = sign_up("ada"), sign_up("eve")
    eves = code_of(eve, mailbox)
    email_addresses.confirm_mine(user=ada, code=code_of(ada, mailbox), caller=caller)
    eve.refresh_from_db()
    assert (eve.email, eve.email_verified) == ("", False)
    assert Event.objects.filter(user=eve, kind="email.claim_lapsed").count() == 1
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=eve, code=eves, caller=caller)


@pytest.mark.django_db(transaction=True)
def test_of_eight_who_prove_one_address_at_once_one_holds_it(caller: Caller, mailbox: Mailbox) -> None:
    people = [sign_up(f"person{letter}") for letter in "abcdefgh"]
    works = [
        lambda user=user, code=code_of(user, mailbox): email_addresses.confirm_mine(user=user, code=code, caller=caller)
        for user in people
    ]
    found = each_at_once(works)
    assert sorted(type(item).__name__ for item in found) == ["InvalidCode"] * 7 + ["User"]
    assert User.objects.filter(email=SHARED, email_verified=True).count() == 1
    assert User.objects.filter(email="").count() == 7


@pytest.mark.django_db(transaction=True)
def test_of_eight_who_confirm_unsigned_at_once_one_holds_it(caller: Caller, mailbox: Mailbox) -> None:
    people = [sign_up(f"person{letter}") for letter in "abcdefgh"]
    works = [
        lambda code=code_of(user, mailbox): email_addresses.confirm(email=SHARED, code=code, caller=caller)
        for user in people
    ]
    found = each_at_once(works)
    assert sorted(type(item).__name__ for item in found) == ["InvalidCode"] * 7 + ["User"]


def test_a_right_code_of_one_claim_is_no_wrong_guess_at_another(caller: Caller, mailbox: Mailbox, db: None) -> None:
    people = [sign_up(f"person{letter}") for letter in "abc"]
    email_addresses.confirm(email=SHARED, code=code_of(people[1], mailbox), caller=caller)
    assert set(Challenge.objects.exclude(user=people[1]).values_list("attempts", flat=True)) == {0}


def test_a_sign_up_with_a_taken_address_mails_its_owner_and_never_a_code(alice: User, mailbox: Mailbox) -> None:
    user = sign_up("mallory", alice.email)
    [mail] = mailbox.all()
    assert mail.to == [alice.email]
    assert "alice" in mail.message
    assert not re.search(r"\d{8}", mail.message)
    assert "/confirm-email/" not in mail.message
    assert (user.email, user.email_verified) == (alice.email, False)


def test_resend_mails_those_who_wait_and_nobody_else(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    user = sign_up("ada")
    old = mailbox.code(SHARED)
    for email in (SHARED.upper(), alice.email, "nobody@example.com", "", "nonsense"):
        email_addresses.resend(email=email, caller=caller)
    assert email_requests.answer() == 5
    assert len(mailbox.all()) == 2
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=user, code=old, caller=caller)
    email_addresses.confirm_mine(user=user, code=mailbox.code(SHARED), caller=caller)


def resend(caller: Caller, times: int = 1) -> None:
    for _ in range(times):
        email_addresses.resend(email=SHARED, caller=caller)
        email_requests.answer()


def test_a_mail_box_is_not_flooded_from_one_network_nor_from_many(caller: Caller, mailbox: Mailbox, db: None) -> None:
    sign_up("ada")
    resend(caller, 15)
    assert len(mailbox.all(SHARED)) == 11
    for _ in range(10):
        resend(Caller(ip=random_ip()), 8)
    assert len(mailbox.all(SHARED)) == 60


def test_a_stranger_who_claims_an_address_again_and_again_keeps_no_mail_from_its_owner(
    caller: Caller, mailbox: Mailbox, settings: Settings, db: None
) -> None:
    settings.PROOF_OF_WORK = False
    stranger = Caller(ip=random_ip())
    for letter in "abcdefghijkl":
        signup.sign_up(username=f"mallory.{letter}", email=SHARED, password=PASSWORD, caller=stranger)
    ada = signup.sign_up(username="ada", email=SHARED, password=PASSWORD, caller=caller)
    email_addresses.confirm_mine(user=ada, code=code_of(ada, mailbox), caller=caller)


def test_who_asks_again_is_mailed_whatever_others_claimed_before_and_after(
    caller: Caller, mailbox: Mailbox, db: None
) -> None:
    stranger = Caller(ip=random_ip())
    for letter in "abc":
        signup.sign_up(username=f"mallory.{letter}", email=SHARED, password=PASSWORD, caller=stranger)
    ada = signup.sign_up(username="ada", email=SHARED, password=PASSWORD, caller=caller)
    for letter in "def":
        signup.sign_up(username=f"mallory.{letter}", email=SHARED, password=PASSWORD, caller=stranger)
    old = code_of(ada, mailbox)
    resend(caller)
    new = code_of(ada, mailbox)
    assert new != old
    email_addresses.send_again(user=ada, email=SHARED, caller=caller)
    assert code_of(ada, mailbox) != new


def test_what_was_mailed_to_an_address_that_was_changed_since_opens_nothing(
    alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    password_resets.request_reset(login="alice", caller=caller)
    email_requests.answer()
    key, code = mailbox.key(alice.email), mailbox.code(alice.email)
    change(alice, "new@example.com", caller)
    email_addresses.confirm_mine(user=alice, code=mailbox.code("new@example.com"), caller=caller)
    with pytest.raises(InvalidKey):
        password_resets.reset_by_key(key=key, new_password="another lagoon tractor", caller=caller)
    with pytest.raises(InvalidCode):
        password_resets.reset_by_code(login="alice", code=code, new_password="another lagoon tractor", caller=caller)


def test_resets_of_claims_do_not_flood_the_mail_box_that_they_claim(
    caller: Caller, mailbox: Mailbox, settings: Settings, db: None
) -> None:
    settings.PROOF_OF_WORK = False
    for letter in "abcdef":
        sign_up(f"mallory.{letter}")
    before = len(mailbox.all(SHARED))
    for letter in "abcdef":
        for _ in range(4):
            password_resets.request_reset(login=f"mallory.{letter}", caller=caller)
    email_requests.answer()
    assert len(mailbox.all(SHARED)) - before == 10


def test_confirm_signs_in_where_proof_is_mandatory(
    caller: Caller, mailbox: Mailbox, settings: Settings, db: None
) -> None:
    settings.EMAIL_VERIFICATION = "mandatory"
    user = sign_up("ada")
    found = email_addresses.confirm_and_sign_in(email="SHARED@example.com", code=mailbox.code(), caller=caller)
    assert found.user == user
    assert user.sessions.count() == 1


@pytest.mark.parametrize("code", ["", "1", "00000000", "x" * 100, "4829 1375", "١٢٣٤٥٦٧٨"])
def test_a_wrong_code_is_refused(code: str, caller: Caller, mailbox: Mailbox, db: None) -> None:
    user = sign_up("ada")
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=user, code=code, caller=caller)


# --- What became of the mail -------------------------------------------------------------------------------


def seen(user: User) -> tuple[str, Delivery | None] | None:
    found = email_addresses.progress(user)
    return (found.email, found.delivery) if found else None


def happens(**changes: object) -> None:
    Email.objects.update(**changes)


STAGES: dict[str, tuple[Callable[[], object], Delivery | None]] = {
    "queued": (lambda: None, Delivery.QUEUED),
    "tried once": (lambda: happens(status=STATUS.requeued, number_of_retries=1), Delivery.QUEUED),
    "sent": (lambda: happens(status=STATUS.sent), Delivery.SENT),
    "refused for good": (
        lambda: happens(status=STATUS.failed, recipient_delivery_status=RecipientDeliveryStatus.HARD_BOUNCED),
        Delivery.BOUNCED,
    ),
    "came back later": (
        lambda: happens(status=STATUS.sent, recipient_delivery_status=RecipientDeliveryStatus.HARD_BOUNCED),
        Delivery.BOUNCED,
    ),
    "too late to leave": (lambda: happens(expires_at=now() - timedelta(seconds=1)), None),
    "given up": (lambda: happens(status=STATUS.failed), None),
    "record pruned": (lambda: Email.objects.all().delete(), None),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_who_claims_an_address_sees_what_became_of_the_mail_and_not_whether_it_is_taken(
    stage: str, taken: bool, alice: User, db: None
) -> None:
    address = alice.email if taken else SHARED
    user = sign_up("mallory", address)
    happen, expected = STAGES[stage]
    happen()
    assert seen(user) == (address, expected)


def test_the_mail_in_place_of_a_code_leaves_and_lapses_as_a_code_would(alice: User, db: None) -> None:
    sign_up("mallory", alice.email)
    sign_up("ada", SHARED)
    notice, code = Email.objects.order_by("id")
    assert notice.to == [alice.email]
    assert notice.priority == code.priority
    assert abs(notice.expires_at - code.expires_at) < timedelta(minutes=5)


@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_asking_for_another_address_ends_the_code_for_the_one_before_taken_or_not(
    taken: bool, alice: User, bob: User, caller: Caller, mailbox: Mailbox
) -> None:
    change(bob, "first@example.com", caller)
    code = mailbox.code("first@example.com")
    address = alice.email if taken else "second@example.com"
    change(bob, address, caller)
    assert seen(bob) == (address, Delivery.QUEUED)
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=bob, code=code, caller=caller)
    before = len(mailbox.all(address))
    email_addresses.send_again(user=bob, email=address, caller=caller)
    assert len(mailbox.all(address)) == before + 1


def test_bob_sees_nothing_of_adas_mail(bob: User, db: None) -> None:
    sign_up("ada")
    assert seen(bob) is None


def test_nothing_is_told_of_a_mail_that_has_done_its_work(caller: Caller, mailbox: Mailbox, db: None) -> None:
    user = sign_up("ada")
    email_addresses.confirm_mine(user=user, code=mailbox.code(SHARED), caller=caller)
    assert seen(user) is None


# --- Changing -----------------------------------------------------------------------------------------------


def change(user: User, email: str, caller: Caller, password: str = PASSWORD) -> None:
    email_addresses.request_change(user=user, email=email, password=password, caller=caller)


def test_a_change_takes_effect_when_the_new_address_is_proved(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    change(alice, " New@Example.com ", caller)
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"
    email_addresses.confirm_mine(user=alice, code=mailbox.code("new@example.com"), caller=caller)
    alice.refresh_from_db()
    assert (alice.email, alice.email_verified) == ("new@example.com", True)
    assert "new@example.com" in mailbox.last("alice@example.com").message
    assert Event.objects.filter(user=alice, kind="email.changed").count() == 1


def test_a_change_wants_the_password(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    with pytest.raises(WrongPassword):
        change(alice, "new@example.com", caller, password="wrong")
    assert mailbox.all() == []


@pytest.mark.parametrize(
    "email",
    [
        "",
        "x",
        "a@b",
        "a b@example.com",
        '"a,b"@example.com',
        "a@example.com\nBcc: b@example.com",
        "a@" + "x" * 250 + ".com",
    ],
)
def test_a_change_to_what_is_no_address_is_refused(email: str, alice: User, caller: Caller) -> None:
    with pytest.raises(InvalidInput) as refused:
        change(alice, email, caller)
    assert refused.value.errors[0].field == "email"


def test_a_change_to_the_same_address_is_refused(alice: User, caller: Caller) -> None:
    with pytest.raises(InvalidInput):
        change(alice, "ALICE@example.com", caller)


def test_a_change_to_a_taken_address_is_not_told_and_mails_its_owner(
    alice: User, bob: User, caller: Caller, mailbox: Mailbox
) -> None:
    change(bob, alice.email, caller)
    [mail] = mailbox.all()
    assert mail.to == [alice.email]
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=bob, code="12345678", caller=caller)
    bob.refresh_from_db()
    assert bob.email == "bob@example.com"


def test_after_a_lapsed_claim_another_address_takes_its_place_at_once(
    carol: User, caller: Caller, mailbox: Mailbox
) -> None:
    User.objects.filter(id=carol.id).update(email="")
    carol.refresh_from_db()
    change(carol, "fresh@example.com", caller)
    carol.refresh_from_db()
    assert (carol.email, carol.email_verified) == ("fresh@example.com", False)
    email_addresses.confirm_mine(user=carol, code=mailbox.code("fresh@example.com"), caller=caller)


def test_proving_an_address_that_somebody_proved_meanwhile_is_refused(
    alice: User, bob: User, caller: Caller, mailbox: Mailbox
) -> None:
    change(alice, SHARED, caller)
    alices = mailbox.code(SHARED)
    change(bob, SHARED, caller)
    email_addresses.confirm_mine(user=bob, code=mailbox.code(SHARED), caller=caller)
    with pytest.raises(InvalidCode):
        email_addresses.confirm_mine(user=alice, code=alices, caller=caller)
    alice.refresh_from_db()
    assert (alice.email, alice.email_verified) == ("alice@example.com", True)


def test_changes_are_limited(alice: User, caller: Caller) -> None:
    for number in range(10):
        change(alice, f"n{number}@example.com", caller)
    with pytest.raises(RateLimited):
        change(alice, "n11@example.com", caller)


def test_send_again_reaches_the_new_address_only_while_it_is_asked_for(
    alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    email_addresses.send_again(user=alice, email="new@example.com", caller=caller)
    assert mailbox.all() == []
    change(alice, "new@example.com", caller)
    email_addresses.send_again(user=alice, email="new@example.com", caller=caller)
    assert len(mailbox.all("new@example.com")) == 2
    make_user("else")


@pytest.mark.django_db(transaction=True)
def test_a_mail_that_is_asked_for_again_at_the_moment_of_a_new_password_opens_nothing_afterwards(
    alice: User, caller: Caller, mailbox: Mailbox
) -> None:
    """A thief who is signed in asks once more for the code to an address of his."""
    for number in range(5):
        theirs = f"thief{number}@example.com"
        change(alice, theirs, caller)
        password_resets.request_reset(login="alice", caller=Caller(ip=random_ip()))
        email_requests.answer()
        key = mailbox.key("alice@example.com")
        each_at_once(
            [
                lambda: email_addresses.send_again(user=alice, email=theirs, caller=caller),
                lambda: password_resets.reset_by_key(key=key, new_password=PASSWORD, caller=caller),
                lambda: email_addresses.send_again(user=alice, email=theirs, caller=caller),
            ]
        )
        assert not Challenge.objects.open().filter(email=theirs).exists()
        Budget.objects.all().delete()
