"""Users of another service: what a line may say, who comes in, and doing it again."""

import inspect
import io
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import bcrypt
import pytest
from django.core.management import CommandError, call_command
from django.db.models import QuerySet
from django.utils.timezone import now
from pytest_django import Settings

from accounts.caller import NOBODY, Caller
from accounts.models import Event, User
from accounts.services.account import email_requests, password_resets, users
from accounts.services.authentication import sign_in
from accounts.services.credentials import hashing, identifiers, imported_hashes
from accounts.services.security import audit
from accounts.services.staff import imports
from accounts.services.staff.imports import Problem, Report
from tests.conftest import PASSWORD, Mailbox, make_user

pytestmark = pytest.mark.django_db

HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


def line(**fields: Any) -> bytes:
    """What a line says of Dora, and what else is given."""
    return json.dumps({"email": "dora@example.com", **fields}).encode()


def bring(*lines: bytes, apply: bool = True) -> Report:
    total = Report()
    for report in imports.run(lines, apply=apply, caller=NOBODY):
        total.read += report.read
        total.made += report.made
        total.there += report.there
        total.refusals += report.refusals
        total.left_out += report.left_out
    return total


def named(problems: Sequence[Problem]) -> Sequence[tuple[int, str, str]]:
    return [(problem.line, problem.error.field, problem.error.code) for problem in problems]


def refusals(report: Report) -> Sequence[tuple[int, str, str]]:
    return named(report.refusals)


def rows() -> Sequence[Any]:
    return [*User.objects.order_by("id").values(), *Event.objects.order_by("id").values()]


# --- Who comes in -------------------------------------------------------------------------------------------


def test_everything_that_a_line_says_is_kept_in_the_spelling_of_a_sign_up(caller: Caller, mailbox: Mailbox) -> None:
    made_at = "2019-03-01T13:00:00+01:00"
    report = bring(
        line(
            username=" Dora.D ", email=" Dora@Example.com", email_verified=True, password_hash=HASH,
            first_name="  Dora  Maria ", last_name="D", gender="female", created_at=made_at,
        )
    )  # fmt: skip
    assert (report.read, report.made, report.there, report.refusals) == (1, 1, 0, [])
    user = User.objects.get()
    assert (user.username, user.email, user.email_verified) == ("dora.d", "dora@example.com", True)
    assert user.username_skeleton == identifiers.skeleton("dora.d")
    assert (user.first_name, user.last_name, user.gender) == ("Dora Maria", "D", "female")
    assert user.created_at == datetime(2019, 3, 1, 12, tzinfo=UTC)
    assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
    assert user.id.version == 7
    assert [event.kind for event in audit.list_for(user, limit=9).events] == ["user.imported"]
    assert mailbox.all() == []
    assert sign_in.check(login="dora@example.com", password=PASSWORD, caller=caller) == user
    user.refresh_from_db()
    assert user.password.startswith("argon2$argon2id$")


def test_an_address_is_enough_and_its_owner_gets_in_by_mail(caller: Caller, mailbox: Mailbox) -> None:
    bring(line(username=None, password_hash=None))
    user = User.objects.get()
    assert not user.email_verified
    assert not user.has_usable_password()
    assert identifiers.username_problem(user.username) is None
    assert "dora" not in user.username
    assert now() - user.created_at < timedelta(minutes=1)
    password_resets.request_reset(login="dora@example.com", caller=caller)
    email_requests.answer()
    password_resets.reset_by_code(
        login="dora@example.com", code=mailbox.code(), new_password="another plum lagoon", caller=caller
    )
    assert sign_in.check(login=user.username, password="another plum lagoon", caller=caller).email_verified


def test_who_was_switched_off_stays_so() -> None:
    bring(line(active=False))
    assert not User.objects.get().is_active


def test_an_id_is_kept() -> None:
    kept = uuid4()
    bring(line(id=str(kept)))
    assert User.objects.get().id == kept


def test_made_usernames_obey_the_rule_and_do_not_look_alike() -> None:
    names = [imports._neutral_username(uuid4()) for _ in range(2000)]
    assert not [name for name in names if identifiers.username_problem(name)]
    assert len({identifiers.skeleton(name) for name in names}) == 2000


def test_without_apply_the_same_is_told_and_nothing_written(alice: User) -> None:
    lines = [line(), line(username="b", email="b@example.com"), line(email="alice@example.com"), line()]
    before = rows()
    looked = bring(*lines, apply=False)
    assert rows() == before
    assert bring(*lines) == looked
    assert (looked.made, len(looked.left_out), len(looked.refusals)) == (2, 1, 2)


def test_empty_lines_count_as_lines_and_as_nothing_else() -> None:
    report = bring(b"\n", line(), b"  \r\n", line(email="no"))
    assert (report.read, refusals(report)) == (2, [(4, "email", "email_invalid"), (4, *NO_WAY_IN)])


# --- What is refused ----------------------------------------------------------------------------------------


NO_WAY_IN = ("", "no_way_in")
LEFT_OUT: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"username": "o'brien"}, [("username", "username_characters")]),
    ({"username": "O'Brien"}, [("username", "username_characters")]),
    ({"username": "d"}, [("username", "username_length")]),
    ({"username": "do ra"}, [("username", "username_characters")]),
    ({"username": "dora@example.com"}, [("username", "username_characters")]),
    ({"username": "dor\u0430"}, [("username", "username_script")]),
    ({"username": "adm1n"}, [("username", "username_reserved")]),
    ({"username": "x" * 1000}, [("username", "username_length")]),
    ({"first_name": "x" * 81}, [("first_name", "name_too_long")]),
    ({"last_name": "<b>", "first_name": "Dora"}, [("last_name", "name_characters")]),
    ({"last_name": "a\x00b"}, [("last_name", "name_characters")]),
    ({"first_name": "\ud800"}, [("first_name", "name_characters")]),
    ({"gender": "F"}, [("gender", "gender_invalid")]),
    ({"password_hash": PASSWORD}, [("password_hash", "hash_unknown")]),
    ({"password_hash": HASH.replace("$04$", "$31$")}, [("password_hash", "hash_too_costly")]),
    ({"password_hash": "UkVEQUNURUQ="}, [("password_hash", "hash_redacted")]),
    ({"created_at": "yesterday"}, [("created_at", "created_at_invalid")]),
    ({"created_at": "2019-03-01T12:00:00"}, [("created_at", "created_at_invalid")]),
    ({"created_at": "2999-03-01T12:00:00Z"}, [("created_at", "created_at_invalid")]),
    ({"created_at": "0001-01-01T00:00:00Z"}, [("created_at", "created_at_invalid")]),
    ({"id": "7"}, [("id", "not_a_uuid")]),
    ({"id": str(UUID(int=0))}, [("id", "not_a_uuid")]),
    ({"external_id": "7" * 3000}, []),
    ({"username": "", "password_hash": "", "id": "", "created_at": "", "gender": "", "first_name": " "}, []),
    (
        {"second_factors": ["totp", "recovery-codes"]},
        [("second_factors.totp", "second_factor"), ("second_factors.recovery-codes", "second_factor")],
    ),
    ({"email": None, "username": "dora", "password_hash": HASH}, []),
    ({"email": "dora", "username": "dora", "password_hash": HASH}, [("email", "email_invalid")]),
]
REFUSED: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"email": None}, [NO_WAY_IN]),
    ({"email": "dora"}, [("email", "email_invalid"), NO_WAY_IN]),
    ({"email": None, "username": "dora"}, [NO_WAY_IN]),
    ({"email": None, "password_hash": HASH}, [NO_WAY_IN]),
    ({"email": None, "username": "dora", "password_hash": "x"}, [("password_hash", "hash_unknown"), NO_WAY_IN]),
    (
        {"email": None, "username": "o'brien", "password_hash": HASH},
        [("username", "username_characters"), NO_WAY_IN],
    ),
    ({"email_verified": "yes"}, [("email_verified", "not_a_boolean")]),
    ({"active": 1}, [("active", "not_a_boolean")]),
    ({"username": 7}, [("username", "not_a_string")]),
    ({"second_factors": "totp"}, [("second_factors", "invalid")]),
    ({"second_factors": ["dora@example.com"]}, [("second_factors", "invalid")]),
    ({"is_staff": True}, [("is_staff", "unknown_field")]),
    ({"dora@example.com": True}, [("?", "unknown_field")]),
]


def test_what_cannot_be_taken_is_left_out_of_the_person_and_nobody_is_lost() -> None:
    found = []
    for fields, _expected in LEFT_OUT:
        report = bring(line(**fields))
        user = User.objects.get()
        sound = user.email in {"", "dora@example.com"} and len(user.first_name) <= 80 and user.created_at <= now()
        kept = identifiers.username_problem(user.username) is None and user.username_typed == ""
        found.append((fields, [one[1:] for one in named(report.left_out)], report.made, refusals(report), sound, kept))
        User.objects.all().delete()
    assert [
        one for one, (fields, expected) in zip(found, LEFT_OUT, strict=True) if one[1:] != (expected, 1, [], True, True)
    ] == []


def test_a_line_that_is_damaged_or_of_whom_nobody_could_sign_in_is_refused_and_each_wrong_field_is_named() -> None:
    found = [(fields, [one[1:] for one in refusals(bring(line(**fields)))]) for fields, _expected in REFUSED]
    assert found == REFUSED
    assert not User.objects.exists()


def test_who_has_no_address_signs_in_by_username_unless_an_address_is_asked_of_everybody(
    settings: Settings, caller: Caller
) -> None:
    nobody = line(email=None, username="dora", password_hash=HASH)
    settings.EMAIL_VERIFICATION = "mandatory"
    assert refusals(bring(nobody)) == [(1, *NO_WAY_IN)]
    settings.EMAIL_VERIFICATION = "optional"
    bring(nobody)
    assert sign_in.check(login="dora", password=PASSWORD, caller=caller).email == ""


def test_an_address_that_is_left_out_is_not_verified_either() -> None:
    bring(line(email="dora", email_verified=True, username="dora", password_hash=HASH))
    assert not User.objects.get().email_verified


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"[]", "not_an_object"),
        (b"dora@example.com", "not_an_object"),
        (b'{"email": "dora@example.com", "email": "eve@example.com"}', "not_an_object"),
        (b'{"email": "d\xff@example.com"}', "not_an_object"),
        (b"[" * 50_000, "not_an_object"),
        (b'{"email": "' + b"x" * 70_000 + b'"}', "line_too_long"),
    ],
)
def test_what_is_no_object_is_refused(text: bytes, code: str) -> None:
    assert refusals(bring(text)) == [(1, "", code)]


def test_each_code_has_its_words_and_each_word_its_code() -> None:
    source = inspect.getsource(imports) + inspect.getsource(imported_hashes)
    assert {code for code in imports.WORDS if source.count(f'"{code}"') < 2} == set()


# --- What is taken already ----------------------------------------------------------------------------------


def test_refuses_bobs_name_what_looks_like_it_and_bobs_proved_address(bob: User) -> None:
    report = bring(
        line(username="bob"),
        line(username="b0b", email="eve@example.com"),
        line(username="bob", email=None, password_hash=HASH, external_id="3"),
        line(email="BOB@example.com", email_verified=True),
        line(email="bob@example.com", username="bobby", external_id="4"),
        line(email="bob@example.com", username="robert", password_hash=HASH, email_verified=True),
    )
    assert named(report.left_out) == [
        (1, "username", "username_taken"),
        (2, "username", "username_taken"),
        (6, "email", "email_taken"),
    ]
    assert refusals(report) == [
        (3, "username", "username_taken"),
        (4, "email", "email_taken"),
        (5, "email", "email_taken"),
    ]
    others = User.objects.exclude(id=bob.id)
    assert set(others.values_list("email", flat=True)) == {"dora@example.com", "eve@example.com", ""}
    assert not others.filter(username__contains="b0b").exists()
    robert = others.get(username="robert")
    assert not robert.email_verified
    assert hashing.matches(robert, PASSWORD)
    bob.refresh_from_db()
    assert (bob.username, bob.email, bob.email_verified) == ("bob", "bob@example.com", True)


@pytest.mark.parametrize("apply", [True, False])
@pytest.mark.parametrize("size", [1, 1000])
def test_of_two_lines_with_one_name_address_or_id_the_first_comes_in(
    monkeypatch: pytest.MonkeyPatch, size: int, apply: bool
) -> None:
    monkeypatch.setattr(imports, "BATCH", size)
    report = bring(
        line(username="dora", email_verified=True),
        line(username="d0ra", email="other@example.com"),
        line(username="eve"),
        line(username="eve-two", email_verified=True),
        line(external_id="7", email="seven@example.com"),
        line(external_id="7", email="eight@example.com"),
        line(email="claim@example.com"),
        line(email="Claim@example.com"),
        apply=apply,
    )
    assert named(report.left_out) == [(2, "username", "username_taken")]
    assert refusals(report) == [
        (3, "email", "email_taken"),
        (4, "email", "email_taken"),
        (6, "id", "duplicate"),
        (8, "id", "duplicate"),
    ]
    assert report.made == 4


@pytest.mark.parametrize("size", [1, 1000])
def test_a_claim_lapses_when_a_line_proves_its_address(monkeypatch: pytest.MonkeyPatch, size: int, carol: User) -> None:
    monkeypatch.setattr(imports, "BATCH", size)
    report = bring(
        line(username="claimer"),
        line(username="owner", email_verified=True),
        line(username="carol-too", email=carol.email, email_verified=True),
    )
    assert (report.made, report.refusals) == (3, [])
    emails = dict(User.objects.values_list("username", "email"))
    assert emails == {"claimer": "", "owner": "dora@example.com", "carol": "", "carol-too": carol.email}
    assert Event.objects.filter(kind="email.claim_lapsed").count() == 2


def test_who_takes_a_name_meanwhile_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the write of a batch, somebody signs up."""
    original = QuerySet.bulk_create

    def late(self: Any, objects: Any, **options: Any) -> Any:
        if self.model is User:
            monkeypatch.setattr(QuerySet, "bulk_create", original)
            make_user("dora")
        return original(self, objects, **options)

    monkeypatch.setattr(QuerySet, "bulk_create", late)
    report = bring(line(username="dora", email="other@example.com"), line(email="eve@example.com"))
    assert refusals(report) == [(1, "", "taken_meanwhile")]
    assert report.made == 1
    assert set(User.objects.values_list("email", flat=True)) == {"dora@example.com", "eve@example.com"}
    assert Event.objects.count() == 1


# --- Again --------------------------------------------------------------------------------------------------

PEOPLE = [
    line(username="dora", created_at="2020-01-01T00:00:00Z", password_hash=HASH, email_verified=True),
    line(email="eve@example.com", external_id="firebase-7"),
    line(email="fay@example.com", id="0b3e4a52-9d3f-4b0e-8e67-0d8d1b1f2c3d"),
    line(email="gina@example.com"),
]


def test_doing_it_twice_changes_nothing() -> None:
    assert bring(*PEOPLE).made == 4
    before = rows()
    report = bring(*PEOPLE)
    assert (report.made, report.there, report.refusals) == (0, 4, [])
    assert rows() == before


def test_somebody_who_changed_everything_since_is_still_there_already() -> None:
    bring(*PEOPLE)
    for number, user in enumerate(User.objects.all()):
        name = f"changed-{'abcd'[number]}"
        User.objects.filter(id=user.id).update(
            username=name, username_skeleton=identifiers.skeleton(name), email=f"{name}@example.com"
        )
    assert bring(*PEOPLE).there == 4


def test_an_abort_loses_nothing_and_the_rest_comes_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "BATCH", 1)

    def torn() -> Iterator[bytes]:
        yield from PEOPLE[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for _ in imports.run(torn(), apply=True, caller=NOBODY):
            pass
    assert User.objects.count() == 2
    report = bring(*PEOPLE)
    assert (report.made, report.there) == (2, 2)


def test_an_id_that_is_made_of_an_address_can_be_made_here_only(settings: Settings) -> None:
    made = imports.read(line()).user.id
    assert imports.read(line()).user.id == made
    settings.SECRET_KEY = "another key that nobody knows, another key that nobody knows"
    assert imports.read(line()).user.id != made


# --- Among the others ---------------------------------------------------------------------------------------


def test_an_old_account_that_just_arrived_is_not_removed_as_unproved() -> None:
    bring(line(created_at="2019-03-01T12:00:00Z"))
    assert users.remove_unverified() == 0
    User.objects.update(updated_at=now() - timedelta(days=31))
    assert users.remove_unverified() == 1


def test_an_address_means_its_oldest_claim_whatever_the_ids_say() -> None:
    bring(line(id=str(UUID(int=2**128 - 1)), username="first", created_at="2019-03-01T12:00:00Z"))
    make_user("dora", verified=False)
    found = identifiers.find("dora@example.com")
    assert found is not None
    assert found.username == "first"


# --- The command --------------------------------------------------------------------------------------------


def command(tmp_path: Path, *lines: bytes, **options: Any) -> str:
    file = tmp_path / "users.jsonl"
    file.write_bytes(b"\n".join(lines))
    out = io.StringIO()
    try:
        call_command("import_users", file, stdout=out, **options)
    except CommandError as error:
        return f"{out.getvalue()}CommandError: {error}"
    return out.getvalue()


def test_the_command_only_looks_unless_it_is_told_to_apply(tmp_path: Path) -> None:
    out = command(tmp_path, *PEOPLE)
    assert "4 lines: 4 could be imported, 0 already there, 0 refused." in out
    assert "--apply" in out
    assert not User.objects.exists()
    out = command(tmp_path, *PEOPLE, apply=True)
    assert "4 lines: 4 imported, 0 already there, 0 refused." in out
    assert User.objects.count() == 4


def test_the_command_counts_what_it_leaves_out_names_refused_lines_and_shows_nothing_of_them(tmp_path: Path) -> None:
    secret = "$2b$31$" + "x" * 53
    lines = [
        b"\xef\xbb\xbf" + line(),
        line(username="d", email="e@example", password_hash=secret),
        line(username="o'brien", email="obrien@example.com", second_factors=["otp"]),
        line(username="d'arcy", email="darcy@example.com", first_name="x" * 81),
    ]
    looked = command(tmp_path, *lines)
    assert "CommandError" not in looked
    assert "4 lines: 3 could be imported, 0 already there, 1 refused." in looked
    out = command(tmp_path, *lines, apply=True)
    assert "line 2: username: username_length, refused (Use 3 to 30 characters for your username.)" in out
    assert "line 2: password_hash: hash_too_costly, refused" in out
    assert "line 2: whole line: no_way_in, refused" in out
    assert "line 3: username: username_characters, left out" in out
    assert "line 3: second_factors.otp: second_factor, left out" in out
    assert "4 lines: 3 imported, 0 already there, 1 refused." in out
    assert "CommandError: Correct the refused lines" in out
    for told in (looked, out):
        *_, counts = told.partition("From 2 of them something is left out:\n")
        assert [text.split() for text in counts.splitlines()[:3]] == [
            ["2", "username:", "username_characters"],
            ["1", "second_factors.otp:", "second_factor"],
            ["1", "first_name:", "name_too_long"],
        ]
        for private in ("e@example", "xxxx", "dora", "brien"):
            assert private not in told.replace("name@example.com", "")


def test_the_command_reads_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"\n".join(PEOPLE),))
    writer.start()
    out = io.StringIO()
    call_command("import_users", tmp_path / "pipe", stdout=out)
    writer.join()
    assert "4 lines: 4 could be imported" in out.getvalue()


def test_the_command_says_which_file_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"missing\.jsonl can't be read: No such file"):
        call_command("import_users", tmp_path / "missing.jsonl")


def test_a_person_at_a_terminal_sees_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    out = command(tmp_path, *PEOPLE)
    assert "█" * 30 + " 4 lines" in out
