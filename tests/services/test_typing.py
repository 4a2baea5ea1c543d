"""What real people type and paste, at every door of the rules: codes, logins, names, addresses in other scripts."""

import io
import json
import unicodedata
from collections.abc import Callable

import pytest
from django.core.management import call_command

from accounts.caller import NOBODY, Caller, Device
from accounts.errors import AccountError, InvalidCode, InvalidInput, UsernameTaken
from accounts.lib import addresses, typed
from accounts.models import Budget, Challenge, Event, Session, TotpAuthenticator, User
from accounts.services import mail
from accounts.services.account import (
    email_addresses,
    email_requests,
    password_resets,
    passwords,
    sign_in_codes,
    signup,
    users,
)
from accounts.services.authentication import passkeys, reauthentication, sign_in, totp
from accounts.services.credentials import identifiers
from accounts.services.mail import messages, status
from accounts.services.profile import profiles
from accounts.services.security import tickets
from accounts.services.sessions import mfa, sessions
from accounts.services.staff import directory, imports
from tests.conftest import PASSWORD, Mailbox, make_user
from tests.factors import App, passkey_on, two_step_on

LRM, ZWSP = "\u200e", "\u200b"


def in_digits(zero: str) -> Callable[[str], str]:
    """The code in the digits of another script."""
    return lambda code: "".join(chr(ord(zero) + int(one)) if one.isdecimal() else one for one in code)


# However a right code may be typed or pasted. Each keeps the letters of a recovery code.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "Arabic-Indic": in_digits("٠"),
    "Persian": in_digits("۰"),
    "Devanagari": in_digits("०"),
    "full width": lambda code: "".join(chr(ord(one) + 0xFEE0) for one in code),
    "mathematical": in_digits("\U0001d7ce"),
    "a newline behind": lambda code: f"{code}\r\n",
    "marks of direction": lambda code: f"{LRM}{code}{LRM}",
    "an Arabic email": lambda code: f"\u2067{in_digits('٠')(code)}\u2069",
    "a zero width space": lambda code: f"{code[:3]}{ZWSP}{code[3:]}",
    "a no-break space": lambda code: f"{code[:4]}\u00a0{code[4:]}",
    "an en dash": lambda code: f"{code[:4]}\N{EN DASH}{code[4:]}",
    "a minus": lambda code: f"{code[:4]}\N{MINUS SIGN}{code[4:]}",
    "a Japanese dash": lambda code: f"{code[:4]}\u30fc{code[4:]}",
    "the end of a sentence": lambda code: f"«{code}».",
}


def test_a_code_is_one_however_it_is_typed() -> None:
    for code in ("48291375", "492039", "abcd2efg7hij"):
        assert {name: typed.code(spell(code)) for name, spell in SPELLINGS.items()} == dict.fromkeys(SPELLINGS, code)


def test_every_digit_of_every_script_is_a_digit() -> None:
    digits = [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) == "Nd"]
    assert len(digits) >= 650
    assert "".join(map(typed.code, digits)) == "".join(str(unicodedata.digit(one)) for one in digits)


def test_an_emailed_code_is_taken_in_every_spelling(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    def confirm(code: str) -> object:
        return email_addresses.confirm_mine(user=alice, code=code, caller=caller)

    def sign_in_by(code: str) -> object:
        return sign_in_codes.check(login="alice", code=code, caller=caller)

    def reset(code: str) -> object:
        return password_resets.reset_by_code(login="alice", code=code, new_password="x", caller=caller)

    for name in ("Arabic-Indic", "marks of direction", "an en dash", "a newline behind"):
        spell = SPELLINGS[name]
        email_addresses.request_change(user=alice, email="new@example.com", password=PASSWORD, caller=caller)
        confirm(spell(mailbox.code("new@example.com")))
        User.objects.filter(id=alice.id).update(email="alice@example.com")
        Budget.objects.all().delete()
        alice.refresh_from_db()
        sign_in_codes.request(login="alice", caller=caller)
        sign_in_by(spell(mailbox.code("alice@example.com")))
    password_resets.request_reset(login="alice", caller=caller)
    code = mailbox.code("alice@example.com")
    for spell in SPELLINGS.values():  # the password is too short, so the code stays
        with pytest.raises(InvalidInput):
            reset(spell(code))
    assert set(Budget.objects.filter(key__startswith="wrong_").values_list("spent", flat=True)) <= {0}
    assert set(Challenge.objects.values_list("attempts", flat=True)) <= {0, 1}  # 1: the try that was right
    assert not Event.objects.filter(kind="code.failed").exists()


def test_an_app_code_and_a_recovery_code_are_taken_in_every_spelling(
    alice: User, phone: Session, caller: Caller
) -> None:
    setup = totp.begin(user=alice, session=phone)
    code = in_digits("٠")(App(setup.secret).code())
    totp.turn_on(user=alice, session=phone, state=setup.state, code=f"{LRM}{code}", caller=caller)
    app = App(setup.secret)
    for spell in SPELLINGS.values():
        TotpAuthenticator.objects.update(last_step=0)
        mfa.step_up(user=alice, code=spell(app.code()), caller=caller)
    codes: list[str] = []
    for spell in SPELLINGS.values():
        codes = codes or list(totp.make_recovery_codes(user=alice, session=phone, caller=caller))
        mfa.step_up(user=alice, code=spell(codes.pop().replace("-", "")), caller=caller)
    mfa.step_up(user=alice, code=codes.pop().replace("-", "\N{EN DASH}").upper(), caller=caller)
    assert not Event.objects.filter(kind="two_step.failed").exists()
    assert set(Budget.objects.filter(key__startswith="wrong_").values_list("spent", flat=True)) <= {0}


# Too few, too many, of another kind.
NO_CODES = ("", "4829137", "482913750", "4829 137", "٤٨٢٩١٣٧", "abcdefgh", "4829137a", "-" * 8)
NO_SECOND_STEPS = ("", "12345", "1234567", "١٢٣٤٥", "abcdef", "12345a", "abcd-efgh-ijk", "abcd-efgh-ijkl-m", "я" * 12)


def test_what_cannot_be_a_code_spends_no_try(alice: User, phone: Session, caller: Caller, mailbox: Mailbox) -> None:
    app = two_step_on(alice, phone, caller)
    setting_up = totp._SettingUp(user=alice.id.hex, session=phone.id.hex, secret="A" * 32)
    email_addresses.request_change(user=alice, email="new@example.com", password=PASSWORD, caller=caller)
    password_resets.request_reset(login="alice", caller=caller)
    sign_in_codes.request(login="alice", caller=caller)
    email_requests.answer()
    Budget.objects.all().delete()
    doors: list[tuple[tuple[str, ...], Callable[[str], object]]] = [
        (NO_CODES, lambda code: email_addresses.confirm_mine(user=alice, code=code, caller=caller)),
        (NO_CODES, lambda code: email_addresses.confirm(email="new@example.com", code=code, caller=caller)),
        (NO_CODES, lambda code: sign_in_codes.check(login="alice", code=code, caller=caller)),
        (NO_CODES, lambda code: sign_in_codes.check(login="nobody", code=code, caller=caller)),
        (
            NO_CODES,
            lambda code: password_resets.reset_by_code(login="alice", code=code, new_password="x", caller=caller),
        ),
        (NO_SECOND_STEPS, lambda code: mfa.step_up(user=alice, code=code, caller=caller)),
        (
            (*NO_SECOND_STEPS, "abcd-efgh-ijkl"),
            lambda code: totp.turn_on(
                user=alice, session=phone, state=tickets.issue(setting_up), code=code, caller=caller
            ),
        ),
    ]
    for codes, door in doors:
        for code in codes:
            with pytest.raises(InvalidCode):
                door(code)
    assert not Budget.objects.exists()
    assert set(Challenge.objects.values_list("attempts", flat=True)) == {0}
    assert not Event.objects.filter(kind__in=["code.failed", "two_step.failed"]).exists()
    mfa.step_up(user=alice, code=app.code(), caller=caller)


# --- Logins and addresses -----------------------------------------------------------------------------------

PASTED = (ZWSP, "\ufeff", f"{LRM} ", "\u00a0\u2060", "\u2068", "\u00ad\n")


def pasted(text: str) -> list[str]:
    return [f"{hidden}{text}{hidden}" for hidden in PASTED] + [f"{ZWSP}{text}", f"{text}{ZWSP}"]


def test_what_is_pasted_around_a_login_is_no_part_of_it(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    refused: list[tuple[str, str]] = []
    for login in [*pasted("alice"), *pasted("Alice@example.com")]:
        doors: dict[str, Callable[[str], object]] = {
            "sign in": lambda login: sign_in.check(login=login, password=PASSWORD, caller=caller),
            "find": lambda login: {alice: 1}[identifiers.find(login)],  # type: ignore[index]
            "staff": lambda login: directory.search(viewer=alice, text=login, filters=directory.Filters()).people[0],
            "command": lambda login: call_command("remove_second_factors", login, stdout=io.StringIO()),
        }
        for name, door in doors.items():
            try:
                door(login)
            except (AccountError, ZeroDivisionError, IndexError):
                refused.append((name, ascii(login)))
    assert refused == []
    assert not Budget.objects.filter(key__startswith="wrong_", spent__gt=0).exists()
    for login in pasted("alice@example.com")[:3]:
        password_resets.request_reset(login=login, caller=caller)
        sign_in_codes.request(login=login, caller=caller)
    assert len(mailbox.all("alice@example.com")) == 6


def test_what_is_pasted_around_an_address_or_a_name_is_cleaned_away(alice: User, caller: Caller) -> None:
    wrong: list[str] = []
    for number, hidden in enumerate(PASTED):
        name = f"{'bcdfgh'[number]}arla"
        address = f"{hidden}{name}@example.com{hidden}"
        user = signup.sign_up(username=f"{hidden}{name}{hidden}", email=address, password=PASSWORD, caller=caller)
        wrong += [ascii(hidden)] * ((user.username, user.email) != (name, f"{name}@example.com"))
        line = {"username": f"{hidden}x{name}", "email": f"{hidden}x{address}", "first_name": f"{hidden}Ada{hidden}"}
        brought = imports.read(json.dumps({**line, "email": f"{hidden}x{name}@example.com{hidden}"}).encode()).user
        wrong += [ascii(hidden)] * (
            (brought.username, brought.email, brought.first_name) != (f"x{name}", f"x{name}@example.com", "Ada")
        )
    assert wrong == []
    email_addresses.request_change(user=alice, email=f"{ZWSP}new@example.com", password=PASSWORD, caller=caller)
    assert Challenge.objects.filter(email="new@example.com").exists()
    made = users.make_staff(username=f"{ZWSP}root.ada", email=f"{ZWSP}root.ada@example.com", password=PASSWORD)
    assert (made.username, made.email) == ("root.ada", "root.ada@example.com")


def test_an_invisible_character_inside_an_address_is_refused(alice: User, caller: Caller) -> None:
    for address in (f"a{ZWSP}da@example.com", f"ada@exam{ZWSP}ple.com", f"ada@b{ZWSP}üch.example", "ada@b\u00adüch.de"):
        with pytest.raises(InvalidInput):
            signup.sign_up(username="dora", email=address, password=PASSWORD, caller=caller)
        with pytest.raises(InvalidInput):
            email_addresses.request_change(user=alice, email=address, password=PASSWORD, caller=caller)


# --- Names --------------------------------------------------------------------------------------------------

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
KEPT = (
    "علی\u200cرضا",
    "ශ්\u200dරී",
    "Ada \U0001f469\u200d\U0001f4bb",
    "ক্\u200dষমা",
    f"{FAMILY}’s iPhone",
    "Ada \u2764\ufe0f\u200d\U0001f525",
    "Zoë \U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "\U0001f642\u200d\u2194\ufe0f",
    "\U0001fae9 2024",  # an emoji that is newer than the tables of older Pythons
)
CLEANED = {
    f"{ZWSP}Ada": "Ada",
    "Ada\u200d": "Ada",
    "\u200cعلی": "علی",
    "A\u202eda": "Ada",
    "Ada\u200c Lovelace": "Ada Lovelace",
    "Ada\u200d\u200d\u200dBo": "AdaBo",
    f"علی\u200c{LRM}رضا": "علی\u200cرضا",
    "A\u00adda\u2028 Lo": "Ada Lo",
    "\U000e0041\U000e0042Ada": "Ada",  # tags, with which a text can be hidden
    f"{ZWSP}{LRM}": "",
}


def test_joiners_stay_in_names_and_other_invisible_characters_go(alice: User, caller: Caller) -> None:
    names = {**dict(zip(KEPT, KEPT, strict=True)), **CLEANED}
    found: dict[str, set[str]] = {}
    for number, given in enumerate(names):
        profiles.update(user=alice, changes={"first_name": given, "last_name": given}, caller=caller)
        line = {"email": f"x{number}@example.com", "first_name": given, "last_name": given}
        brought = imports.read(json.dumps(line).encode()).user
        made = signup._checked(
            username=f"dora{number}.x", email="d@example.com", password=PASSWORD, first_name=given, caller=NOBODY
        )
        alice.refresh_from_db()
        found[given] = {
            *(alice.first_name, alice.last_name, brought.first_name, brought.last_name, made.first_name),
            Device(given).name,
        }
    assert found == {given: {seen} for given, seen in names.items()}


def test_a_device_and_a_passkey_keep_a_family_and_so_do_emails(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    name = f"{FAMILY}’s iPhone"
    where = Caller(ip=caller.ip, device=Device(name))
    session = sessions.begin(user=alice, kind=Session.Kind.APP, caller=where)
    assert Session.objects.get(id=session.id).name == name
    passkey_on(alice, session, where, name=f"{name}{ZWSP}")
    assert alice.passkeys.get().name == name
    with pytest.raises(InvalidInput):
        passkeys.rename(user=alice, passkey_id=alice.passkeys.get().id, name="a\x07b", caller=where)
    password_resets.request_reset(login="alice", caller=where)
    assert name in mailbox.last("alice@example.com").message
    alice.first_name = "علی\u200cرضا"
    assert messages._greeted(alice) == "علی\u200cرضا"


# --- Addresses in other scripts -----------------------------------------------------------------------------

STORED, SHOWN = "x@xn--bcher-kva.example", "x@bücher.example"
BOTH = (STORED, SHOWN, "X@BÜCHER.Example", "x@bu\u0308cher\u3002example", f"{ZWSP}{SHOWN}")


def test_an_address_has_one_spelling_and_is_shown_as_people_know_it() -> None:
    shown = {
        SHOWN: SHOWN,
        "x@faß.de": "x@faß.de",
        "x@例え.jp": "x@例え.jp",
        "x@παράδειγμα.gr": "x@παράδειγμα.gr",
        "x@оса.рф": "x@оса.рф",
        "x@نامه\u200cای.com": "x@نامه\u200cای.com",
        "x@example.com": "x@example.com",
        # As browsers do: what could be taken for another domain stays in ASCII.
        "x@p\u0430ypal.com": "x@xn--pypal-4ve.com",
        "x@\u0430\u0440\u0440\u04cf\u0435.com": "x@xn--80ak6aa92e.com",
        "x@xn--abc.de": "x@xn--abc.de",
        # Both spellings of a domain with a symbol, which IDNA 2008 does not have.
        "x@☃.example": "x@xn--n3h.example",
        "x@xn--n3h.example": "x@xn--n3h.example",
        "x@❤\ufe0fbücher。example": "x@xn--bcher-kva6399d.example",
        "": "",
    }
    assert {address: addresses.shown(addresses.fold(address)) for address in shown} == shown
    assert all(addresses.fold(address).isascii() for address in shown)
    assert {identifiers.fold_email(one) for one in BOTH} == {STORED}


def test_a_person_with_such_an_address_comes_in_by_every_door(caller: Caller, mailbox: Mailbox, alice: User) -> None:
    user = signup.sign_up(username="xaver", email=SHOWN, password=PASSWORD, caller=caller)
    assert (user.email, user.email_display) == (STORED, SHOWN)
    sent = mailbox.last(STORED)
    assert sent.to == [STORED]
    assert SHOWN in sent.message
    assert SHOWN in sent.html_message
    assert STORED not in sent.message + sent.html_message
    message = mail.delivery._message(sent)
    assert message.recipients() == [STORED]
    assert message.message()["To"] == STORED
    assert status.came_back(message_id=str(sent.message_id), to=SHOWN, reason="no such user")
    assert email_addresses.confirm(email=BOTH[2], code=mailbox.code(STORED), caller=caller) == user
    for login in BOTH:
        assert sign_in.check(login=login, password=PASSWORD, caller=caller) == user
        assert identifiers.find(login) == user
        people = directory.search(viewer=alice, text=login, filters=directory.Filters()).people
        assert [person.email_display for person in people] == [SHOWN]
    password_resets.request_reset(login=SHOWN, caller=caller)
    password_resets.reset_by_code(
        login=BOTH[3], code=mailbox.code(STORED), new_password="another lagoon tractor", caller=caller
    )
    user.refresh_from_db()
    with pytest.raises(InvalidInput) as refused:
        email_addresses.request_change(user=user, email=SHOWN, password="another lagoon tractor", caller=caller)
    assert [error.code for error in refused.value.errors] == ["email_unchanged"]


def test_an_import_a_change_and_a_command_know_the_domain_too(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    lines = [json.dumps({"email": one, "email_verified": True}).encode() for one in (SHOWN, STORED)]
    [report] = imports.run(lines, apply=True, caller=NOBODY)
    assert [refusal.error.code for refusal in report.refusals] == ["duplicate"]
    assert User.objects.get(email=STORED).email_verified
    email_addresses.request_change(user=alice, email="y@bücher.example", password=PASSWORD, caller=caller)
    alice = email_addresses.confirm_mine(user=alice, code=mailbox.code("y@xn--bcher-kva.example"), caller=caller)
    assert alice.email_display == "y@bücher.example"
    assert "y@bücher.example" in mailbox.last("alice@example.com").message  # the email that can undo it
    assert users.make_staff(username="zora", email="z@bücher.example", password=PASSWORD).email.isascii()


# --- Usernames ----------------------------------------------------------------------------------------------


def test_a_username_is_shown_as_typed_where_no_capital_makes_it_another() -> None:
    shown = {
        "Ιωάννης": "Ιωάννης",
        "ΝΙΚΟΣ": "ΝΙΚΟΣ",
        " Ada ": "Ada",
        "weiß": "weiß",
        "McAda": "McAda",
        "Ｋen": "Ken",
        "田中Ken": "田中Ken",
        "Вова": "Вова",
        "ada": "",
        # Capitals that would look like "paypal", "kal", "happy" and "bob".
        "PaypaI": "",
        "KaI": "",
        "\N{GREEK CAPITAL LETTER ETA}\N{GREEK CAPITAL LETTER ALPHA}ΡΡΥ": "",
        "\u0412\u041e\u0412": "",
        # The same with a mark on a letter: "Juli\u00e1n" and "m\u00e1x".
        "JuI\u00e1n": "",
        "\u039c\u0386\u03a7": "",
        "R" * 31: "",
    }
    assert {given: identifiers.as_typed(given) for given in shown} == shown


def test_a_name_is_compared_folded_and_shown_as_typed_everywhere(alice: User, caller: Caller, mailbox: Mailbox) -> None:
    user = signup.sign_up(username="Ιωάννης", email="i@example.com", password=PASSWORD, caller=caller)
    assert (user.username, user.username_display, str(user)) == ("ιωάννησ", "Ιωάννης", "Ιωάννης")
    assert "Ιωάννης" in mailbox.last("i@example.com").message
    for login in ("Ιωάννης", "ιωάννης", "ΙΩΆΝΝΗΣ", "ιωάννησ"):
        assert sign_in.check(login=login, password=PASSWORD, caller=caller) == user
        with pytest.raises(UsernameTaken):
            signup.sign_up(username=login, email="j@example.com", password=PASSWORD, caller=caller)
    people = directory.search(viewer=alice, text="Ιωάννης", filters=directory.Filters()).people
    assert [person.username_display for person in people] == ["Ιωάννης"]
    brought = imports.read(json.dumps({"username": "Νίκος", "email": "n@example.com"}).encode()).user
    assert (brought.username, brought.username_display) == ("νίκοσ", "Νίκος")
    assert users.make_staff(username="Zora", email="z@example.com", password=PASSWORD).username_display == "Zora"


def test_another_spelling_of_the_same_username_is_no_change_of_it(bob: User, caller: Caller) -> None:
    def rename(username: str) -> User:
        return profiles.update(user=bob, changes={"username": username}, caller=caller)

    assert [rename(name).username_display for name in ("Bob", "BOB", "bob", "Bob")] == ["Bob", "BOB", "bob", "Bob"]
    assert not Event.objects.filter(kind="username.changed").exists()
    changed = rename("Robert")
    assert (changed.username, changed.username_display) == ("robert", "Robert")
    assert rename("rob").username_display == "rob"
    assert Event.objects.filter(kind="username.changed").count() == 2


def test_who_exists_keeps_name_address_and_sign_in(db: None, caller: Caller) -> None:
    """Rows as an earlier version wrote them, some of which nobody could sign up with today."""
    for number, (username, email) in enumerate(
        [
            ("ιωάννησ", "i@example.com"),
            ("admiń", "a@xn--bcher-kva.example"),
            ("suppört", "s@xn--zzzzzzz.example"),
            ("ab.c", "under_score@xn--80ak6aa92e.com"),
        ]
    ):
        user = make_user(f"someone{number}")
        old = {"username": username, "username_skeleton": identifiers.skeleton(username), "email": email}
        User.objects.filter(id=user.id).update(**old)
        for login in (username, username.upper(), email, email.upper(), addresses.shown(email)):
            assert sign_in.check(login=login, password=PASSWORD, caller=caller) == user
        user.refresh_from_db()
        assert user.username_display == username
        reauthentication.confirm_password(user=user, password=PASSWORD, caller=caller)
        passwords.change_by_operator(user=user, new_password="another lagoon tractor", caller=caller)
        assert profiles.update(user=user, changes={"first_name": "Io"}, caller=caller).username == username
