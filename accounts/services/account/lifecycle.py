"""What an account consists of, and what happens to it: one row per noun, one column per moment.

A new model with a path to `User` needs a row here; a test asks for it. Where a noun has nothing to do at a
moment, the row says why."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

from accounts.caller import Caller
from accounts.models import (
    Challenge,
    Event,
    Export,
    Gender,
    Identity,
    KeptAnswer,
    MailOwner,
    Passkey,
    PictureUpload,
    ReservedUsername,
    Session,
    TotpAuthenticator,
    User,
)
from accounts.services import mail
from accounts.services.authentication import identities, passkeys, sign_in, totp
from accounts.services.credentials import challenges, reserved_usernames
from accounts.services.profile import exports, picture_uploads
from accounts.services.security import audit, kept_answers, rate_limits
from accounts.services.sessions import sessions


@dataclass(frozen=True)
class Revocation:
    """Access is taken from everybody but the owner.

    `keep` is the session of the device that asks. Second factors and identities that were added after `since` are
    removed; None leaves them all. After a take-over (`taken_over`) recovery codes made after `since` count as the
    stranger's too, and no email tells of each: the owner is at the keyboard and the mailbox was not theirs."""

    caller: Caller
    keep: UUID | None = None
    since: datetime | None = None
    taken_over: bool = False


class Because(str):
    """Why a noun has nothing to do at a moment."""

    __slots__ = ()


# Of a file in the copy of the data: JSON of an object or of a list, a file as it is, or nothing.
Contents = Mapping[str, Any] | Iterator[Mapping[str, Any]] | bytes | None


@dataclass(frozen=True)
class Part:
    """One noun. Each moment runs in the caller's transaction, which has locked the user."""

    name: str
    models: tuple[type[Model], ...]
    erase: Callable[[User], object] | Because  # the account is erased
    hand_over: Callable[[User, Caller], object] | Because  # a squatter's account goes to the owner of its address
    revoke: Callable[[User, Revocation], object] | Because  # new or forced password, reset, undone change of address
    switch_off: Callable[[User, Caller], object] | Because  # an operator or staff switches the account off
    export: tuple[tuple[str, Callable[[User], Contents]], ...] | Because  # files of the copy for the owner
    prune: Callable[[], int] | Because  # every hour


_CASCADE = Because("Postgres removes the rows with the user's")
_OWNERS = Because("they stay the owner's")
_LASTS = Because("they last as long as the account")
_LOG = Because("the owner must be able to read what happened")


def _clear_profile(user: User, caller: Caller) -> None:
    """Nothing that the squatter wrote stays; the username stays, since apps and people may know it."""
    user.first_name, user.last_name, user.gender, user.picture = "", "", Gender.UNSPECIFIED, ""
    user.picture_placeholder, user.language, user.time_zone, user.deletes_at = "", caller.language, "", None
    user.save_profile(
        "first_name", "last_name", "gender", "picture", "picture_placeholder", "language", "time_zone", "deletes_at"
    )


PROFILE = (
    "id", "username", "username_typed", "email", "email_display", "email_verified", "first_name", "last_name",
    "gender", "language", "time_zone", "is_staff", "created_at", "updated_at", "last_login", "deletes_at",
)  # fmt: skip


def _end_sessions(user: User, caller: Caller, keep: UUID | None = None) -> None:
    sessions.end_others(user=user, keep=keep, caller=caller)


def _erase_history(user: User) -> None:
    """What staff did to this account. What this account did as staff goes with the row."""
    LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(User), object_id=str(user.id)).delete()


PARTS = (
    Part(
        "sessions",
        (Session,),
        erase=_CASCADE,
        hand_over=lambda user, _caller: user.sessions.all().delete(),
        revoke=lambda user, why: _end_sessions(user, why.caller, why.keep),
        switch_off=_end_sessions,
        export=(("devices.json", sessions.export),),
        prune=sessions.prune,
    ),
    Part(
        "codes and links",
        (Challenge,),
        erase=challenges.forget,
        hand_over=Because("the new password that comes with it closes them"),
        revoke=lambda user, _why: challenges.close_all(user),
        switch_off=Because("they let nobody in while the account is off"),
        export=Because("only their hashes are stored"),
        prune=challenges.prune,
    ),
    Part(
        "TOTP authenticator",
        (TotpAuthenticator,),
        erase=_CASCADE,
        hand_over=lambda user, _caller: totp.forget(user),
        revoke=lambda user, why: totp.revoke(user, since=why.since, taken_over=why.taken_over, caller=why.caller),
        switch_off=_OWNERS,
        export=(("two_step.json", totp.export),),
        prune=_LASTS,
    ),
    Part(
        "passkeys",
        (Passkey,),
        erase=_CASCADE,
        hand_over=lambda user, _caller: passkeys.forget(user),
        revoke=lambda user, why: passkeys.revoke(user, since=why.since, taken_over=why.taken_over, caller=why.caller),
        switch_off=_OWNERS,
        export=Because("totp.export lists them"),
        prune=_LASTS,
    ),
    Part(
        "identities at providers",
        (Identity,),
        erase=_CASCADE,
        hand_over=lambda user, _caller: identities.forget(user),
        revoke=lambda user, why: identities.revoke(user, since=why.since, taken_over=why.taken_over, caller=why.caller),
        switch_off=_OWNERS,
        export=(("identities.json", identities.export),),
        prune=_LASTS,
    ),
    Part(
        "pictures",
        (PictureUpload,),
        erase=picture_uploads.forget_all,
        hand_over=lambda user, _caller: picture_uploads.forget_all(user),
        revoke=Because("a picture gives no access, and one on its way may be the owner's"),
        switch_off=lambda user, _caller: picture_uploads.forget(user),
        export=(("uploads.json", picture_uploads.export), ("picture.webp", picture_uploads.export_picture)),
        prune=Because("the worker removes objects every minute"),
    ),
    Part(
        "copies of the data",
        (Export,),
        erase=exports.forget,
        hand_over=lambda user, _caller: exports.forget(user),
        revoke=Because("only a signed-in device can download one"),
        switch_off=Because("nobody can sign in to download one"),
        export=Because("they hold nothing else"),
        prune=Because("the worker removes expired copies every minute"),
    ),
    Part(
        "security log",
        (Event,),
        erase=audit.make_anonymous,
        hand_over=_LOG,
        revoke=_LOG,
        switch_off=_LOG,
        export=(("events.json", audit.export),),
        prune=audit.prune,
    ),
    Part(
        "emails",
        (MailOwner,),
        erase=mail.forget,
        hand_over=Because("they went to the address, which is the new owner's"),
        revoke=Because("a code in them is closed by its own row"),
        switch_off=Because("those that are queued tell what was done"),
        export=(("mails.json", mail.export),),
        prune=mail.prune,
    ),
    Part(
        "limits",
        (),
        erase=lambda user: rate_limits.forget(user.id, user.username, user.email),
        # The new owner did not choose the username.
        hand_over=lambda user, _caller: rate_limits.clear(("username_change_per_account", user.id)),
        # Or an owner who forgot the password couldn't sign in with the new one. (totp.revoke: tries at codes.)
        revoke=lambda user, _why: sign_in.clear_tries(user),
        switch_off=Because("they run out by themselves"),
        export=Because("they are counts of tries, and run out"),
        prune=rate_limits.prune,
    ),
    Part(
        "kept answers",
        (KeptAnswer,),
        erase=_CASCADE,
        hand_over=Because("the sessions that they name have ended, and only the app that asked can open them"),
        revoke=Because("the sessions that they name have ended, and only the app that asked can open them"),
        switch_off=Because("the sessions that they name have ended, and only the app that asked can open them"),
        export=Because("they are sealed, and the app had the same answer"),
        prune=kept_answers.prune,
    ),
    Part(
        "reserved usernames",
        (ReservedUsername,),
        erase=Because("an erased account's names stay reserved until they run out"),
        hand_over=_OWNERS,
        revoke=_OWNERS,
        switch_off=_OWNERS,
        export=Because("only their hashes are stored"),
        prune=reserved_usernames.prune,
    ),
    Part(
        "profile",
        (User,),
        erase=Because("the row itself is deleted last"),
        hand_over=_clear_profile,
        revoke=_OWNERS,
        switch_off=_OWNERS,
        export=(("profile.json", lambda user: {name: getattr(user, name) for name in PROFILE}),),
        prune=Because("users.remove_unverified looks for whole accounts"),
    ),
    Part(
        "staff's history",
        (LogEntry,),
        erase=_erase_history,
        hand_over=Because("operators read it, not the owner"),
        revoke=Because("operators read it, not the owner"),
        switch_off=Because("operators read it, not the owner"),
        export=Because("it is the operators' record of their staff"),
        prune=_LASTS,
    ),
)


def erase(user: User) -> None:
    """Remove everything that is about this user, but the row itself and what is removed with it."""
    for part in PARTS:
        if callable(part.erase):
            part.erase(user)


def hand_over(user: User, *, caller: Caller) -> None:
    """Give the account to the reader of its email. Nothing that a squatter left behind survives."""
    for part in PARTS:
        if callable(part.hand_over):
            part.hand_over(user, caller)
    audit.record(audit.Kind.USER_HANDED_OVER, user=user, caller=caller)


def revoke(user: User, why: Revocation) -> None:
    """End sessions, codes and links, and whatever second factors `why` names."""
    for part in PARTS:
        if callable(part.revoke):
            part.revoke(user, why)


def switch_off(user: User, *, caller: Caller) -> None:
    """Nobody uses this account from now on, until it is switched on again."""
    for part in PARTS:
        if callable(part.switch_off):
            part.switch_off(user, caller)


def export(user: User) -> Iterator[tuple[str, Contents]]:
    """The files of the copy of the data, by name."""
    for part in PARTS:
        if not isinstance(part.export, Because):
            yield from ((name, contents(user)) for name, contents in part.export)


def prune() -> None:
    """Remove what has outlived its use, of every account."""
    for part in PARTS:
        if callable(part.prune):
            part.prune()
