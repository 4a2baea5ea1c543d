"""The whole schema on one page. What changes one row is here; what touches more is a rule (services/)."""

import os
import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Lower
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from accounts.lib import addresses


def uuid7() -> UUID:
    """RFC 9562 version 7: 48 bits of milliseconds, 12 bits of their fraction (its method 3), then random bits. New rows
    are at the end of every index, in the order in which they were made."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    chance = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | chance)


# --- People -------------------------------------------------------------------------------------------------


class Gender(models.TextChoices):
    FEMALE = "female", _("Female")
    MALE = "male", _("Male")
    UNSPECIFIED = "unspecified", _("Prefer not to say")


class UserQuerySet(QuerySet["User"]):
    def active(self) -> "UserQuerySet":
        return self.filter(is_active=True)

    def lock(self) -> "UserQuerySet":
        """Lock these rows until the transaction ends (`FOR NO KEY UPDATE`). FOR UPDATE would wait for every event and
        session that is being written about them, and they for it.

        Lock several things in this order, or two transactions may wait for each other: the address (challenges.lock),
        users by id, challenges, sessions."""
        return self.select_for_update(no_key=True)

    def claiming(self, email: str) -> "UserQuerySet":
        """All users with this address: first the one who verified it, then the oldest claim. Not in the order of ids,
        because imported users keep theirs."""
        return self.filter(email=email).order_by("-email_verified", "created_at", "id")


class Displayed:
    """How a user is shown, for whatever has these columns."""

    username: Any
    username_typed: Any
    email: Any

    @property
    def username_display(self) -> str:
        """As its owner typed it: "Ιωάννης". Compared and looked up is `username`."""
        return str(self.username_typed or self.username)

    @property
    def email_display(self) -> str:
        """As people know it: `x@bücher.example`. Looked up and mailed to is `email`."""
        return addresses.shown(self.email)


class User(Displayed, AbstractBaseUser, PermissionsMixin):
    """A person. Username and address are stored folded, and shown as people know them. An address is a claim until it
    is verified; an account whose claim lapsed has none ("")."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    username = models.CharField(_("username"), max_length=30, unique=True)
    username_typed = models.CharField(
        max_length=30, blank=True, default="", db_default="", editable=False, help_text="empty: shown folded"
    )
    # Equal for names that look alike, so that nobody can imitate "ada" with foreign letters.
    username_skeleton = models.CharField(max_length=120, unique=True, editable=False)
    email = models.EmailField(_("email address"), max_length=254, blank=True, db_index=True)
    email_verified = models.BooleanField(_("email confirmed"), default=False)
    first_name = models.CharField(_("first name"), max_length=80, blank=True)
    last_name = models.CharField(_("last name"), max_length=80, blank=True)
    gender = models.CharField(_("gender"), max_length=11, choices=Gender, default=Gender.UNSPECIFIED)
    # Of emails and times. Empty: the service's.
    language = models.CharField(_("language"), max_length=10, blank=True, default="", db_default="")
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True, default="", db_default="")
    picture = models.CharField(
        max_length=64, blank=True, editable=False, help_text="The key of the objects, see pictures.py"
    )
    picture_placeholder = models.CharField(
        max_length=40, blank=True, default="", db_default="", editable=False, help_text="a BlurHash"
    )
    is_active = models.BooleanField(_("active"), default=True)
    is_staff = models.BooleanField(_("staff"), default=False)
    created_at = models.DateTimeField(_("signed up"), default=now, editable=False)
    updated_at = models.DateTimeField(_("last changed"), default=now, editable=False)
    # Set while a deletion is planned (services/account/deletion.py).
    deletes_at = models.DateTimeField(_("erased after"), null=True, editable=False)

    objects = BaseUserManager.from_queryset(UserQuerySet)()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["email"]

    class Meta:
        verbose_name, verbose_name_plural = _("user"), _("users")
        constraints = [
            models.UniqueConstraint(Lower("username"), name="username_unique_without_case"),
            models.UniqueConstraint("email", condition=Q(email_verified=True), name="email_unique_once_proved"),
            models.CheckConstraint(condition=Q(email=Lower("email")), name="email_in_lower_case"),
            models.CheckConstraint(condition=~Q(email="", email_verified=True), name="email_proved_is_not_empty"),
        ]
        indexes = [
            # The directory: active ids in order, from the index alone.
            models.Index("id", condition=Q(is_active=True), name="user_active_ids"),
            models.Index("created_at", condition=Q(email_verified=False), name="user_unproved"),
            models.Index("deletes_at", condition=Q(deletes_at__isnull=False), name="user_deletion_planned"),
            # Staff filter for these few (services/staff/directory.py).
            models.Index("id", condition=Q(is_staff=True), name="user_staff_ids"),
            models.Index("id", condition=Q(is_active=False), name="user_inactive_ids"),
            # Whether a user still has a picture, before its objects are removed.
            models.Index("picture", condition=~Q(picture=""), name="user_picture"),
        ]
        permissions = [("export_user", "Can export users")]

    def __str__(self) -> str:
        return self.username_display

    @property
    def version(self) -> str:
        """Changes with every change of the profile (the ETag's inside)."""
        return format(int(self.updated_at.timestamp() * 1_000_000), "x")

    def get_full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip() or self.username_display

    def get_short_name(self) -> str:
        return self.first_name or self.username_display

    def get_session_auth_hash(self) -> str:
        """Django signs a browser out if this changes. Ours is signed out when its Session row ends. Django's own value
        would also change with SECRET_KEY, and when a sign-in only strengthens the password's hash."""
        return "ends with its row"

    def save_profile(self, *fields: str) -> None:
        self.updated_at = now()
        self.save(update_fields=[*fields, "updated_at"])


# --- Signed-in devices --------------------------------------------------------------------------------------


class SessionQuerySet(QuerySet["Session"]):
    def open(self) -> "SessionQuerySet":
        return self.filter(ended_at=None, expires_at__gt=now())


class Session(models.Model):
    """A signed-in device, browser or app. One row for its whole life: refreshing updates it in place."""

    class Kind(models.TextChoices):
        BROWSER = "browser", _("Browser")
        APP = "app", _("App")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="sessions", verbose_name=_("user"))
    kind = models.CharField(_("kind"), max_length=7, choices=Kind)
    name = models.CharField(_("name"), max_length=100, blank=True)
    platform = models.CharField(_("platform"), max_length=50, blank=True)
    app_version = models.CharField(_("app version"), max_length=50, blank=True)
    ip = models.GenericIPAddressField(_("IP address"), null=True)
    created_at = models.DateTimeField(_("signed in"), default=now)
    last_used_at = models.DateTimeField(_("last used"), default=now)
    # When this device proved who uses it, and how: `auth_time` and `amr` (words of RFC 8176).
    authenticated_at = models.DateTimeField(default=now)
    authenticated_by = models.CharField(max_length=40, default="pwd", db_default="pwd")
    # If it is not used again; never past the absolute end.
    expires_at = models.DateTimeField(_("expires"))
    ended_at = models.DateTimeField(_("signed out"), null=True)
    # Refresh tokens, see services/sessions/sessions.py.
    generation = models.PositiveIntegerField(default=0)
    generation_used_at = models.DateTimeField(null=True)
    earlier_used_at = ArrayField(models.DateTimeField(), default=list)
    # By which it was signed in, to end with it. Few sessions have one, so the index is small.
    identity = models.ForeignKey("Identity", models.SET_NULL, null=True, related_name="sessions", db_index=False)

    objects = SessionQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("device"), _("devices")
        indexes = [
            models.Index("user", condition=Q(ended_at=None), name="session_open_of_user"),
            models.Index("identity", condition=Q(identity__isnull=False), name="session_of_identity"),
        ]

    def __str__(self) -> str:
        return self.name or self.kind

    @property
    def methods(self) -> list[str]:
        return self.authenticated_by.split()

    def end(self, *, at: datetime) -> None:
        self.ended_at = at
        self.save(update_fields=["ended_at"])


# --- Second factors -----------------------------------------------------------------------------------------


class TotpAuthenticator(models.Model):
    """MFA is on: a TOTP authenticator (RFC 6238) and recovery codes that replace it. Their seeds are sealed, not
    hashed, since they must survive a change of SECRET_KEY."""

    user = models.OneToOneField(User, models.CASCADE, primary_key=True, related_name="totp")
    sealed_seed = models.BinaryField()
    last_step = models.BigIntegerField(default=0, help_text="the newest time step whose code was used")
    created_at = models.DateTimeField(default=now)
    last_used_at = models.DateTimeField(null=True)
    sealed_recovery_seed = models.BinaryField()
    recovery_used = models.PositiveIntegerField(default=0, help_text="a bit for each code")
    recovery_made_at = models.DateTimeField(default=now)

    class Meta:
        db_table = "accounts_twostep"  # the name of a table never changes


class Passkey(models.Model):
    """A WebAuthn credential that a device keeps for this user. Only its public half is here."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="passkeys")
    credential_id = models.BinaryField(unique=True)
    credential = models.BinaryField(help_text="WebAuthn's attested credential data: AAGUID, id, public key")
    sign_count = models.BigIntegerField(default=0)
    synced = models.BooleanField(help_text="whether the device may copy it to others (backup eligible)")
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(default=now)
    last_used_at = models.DateTimeField(null=True)


class Identity(models.Model):
    """Who a user is at a provider such as Google: what signs in is (issuer, subject), and nothing else. The address is
    what the provider said last. It is shown to the owner and trusted by no rule."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="identities", verbose_name=_("user"))
    provider = models.CharField(_("provider"), max_length=32, help_text="its name in PROVIDERS")
    issuer = models.CharField(_("issuer"), max_length=255)
    subject = models.CharField(_("subject"), max_length=255)
    email = models.CharField(_("email address"), max_length=254, blank=True)
    created_at = models.DateTimeField(_("connected"), default=now)
    last_used_at = models.DateTimeField(_("last used"), null=True)

    class Meta:
        verbose_name, verbose_name_plural = _("sign-in provider"), _("sign-in providers")
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="identity_once")]

    def __str__(self) -> str:
        return self.provider


class SpentTicket(models.Model):
    """A ticket (services/security/tickets.py) that was used and would otherwise still be good."""

    id = models.UUIDField(primary_key=True, editable=False)
    until = models.DateTimeField(db_index=True)


# --- Proofs of an address -----------------------------------------------------------------------------------


class ChallengeQuerySet(QuerySet["Challenge"]):
    def asked(self) -> "ChallengeQuerySet":
        """Asked for and not answered by the worker yet."""
        return self.filter(answered_at=None)

    def open(self) -> "ChallengeQuerySet":
        return self.exclude(answered_at=None).filter(closed_at=None)

    def proofs(self) -> "ChallengeQuerySet":
        """All but the links that undo something: those stay valid whatever else changes."""
        return self.exclude(kind__in=Challenge.UNDOES)

    def close(self) -> int:
        return self.filter(closed_at=None).update(closed_at=now())


class Challenge(models.Model):
    """The two secrets of an email, a code and a link, each stored as an HMAC. Using one closes both. (An email that
    lets something be undone has only a link, the email with a sign-in code only a code.)

    One that is not answered is a request that waits for the worker: `login` says whom it may mean, or `user` who it is.
    The worker writes the email and removes the request."""

    class Kind(models.TextChoices):
        CONFIRM_EMAIL = "confirm_email"
        RESET_PASSWORD = "reset_password"  # noqa: S105 - not a password
        SIGN_IN = "sign_in"
        UNDO_EMAIL = "undo_email"
        KEEP_ACCOUNT = "keep_account"
        SIGN_UP = "sign_up"  # of nobody yet: `login` is the username, and there is only a code
        NEW_DEVICE = "new_device"  # has no secrets: only the request for its email

    UNDOES = (Kind.UNDO_EMAIL, Kind.KEEP_ACCOUNT)
    MAX_ATTEMPTS = 5

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=14, choices=Kind)
    login = models.CharField(max_length=254, blank=True)
    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="challenges")
    email = models.CharField(max_length=254, blank=True)
    code_mac = models.BinaryField(null=True)
    key_mac = models.BinaryField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(default=now)
    answered_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    claimed_until = models.DateTimeField(null=True, help_text="the end of the lease of the worker that answers it")
    ip = models.GenericIPAddressField(null=True)
    device = models.CharField(max_length=200, blank=True)
    ticket = models.UUIDField(null=True, help_text="of the browser that signs up by code: only it may guess")
    # The mail that went out for it, be it a notice to the one who has proved the address (email_addresses.py).
    mail = models.ForeignKey("post_office.Email", models.SET_NULL, null=True, related_name="+")
    language = models.CharField(max_length=10, blank=True, default="", db_default="", help_text="of the request")

    objects = ChallengeQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index("id", condition=Q(answered_at=None), name="challenge_asked"),
            models.Index("email", condition=Q(closed_at=None), name="challenge_open_of_email"),
            models.Index("created_at", name="challenge_age"),
        ]

    @property
    def link_expires_at(self) -> datetime:
        return (self.answered_at or self.created_at) + self.link_lifetime(self.Kind(self.kind))

    @classmethod
    def link_lifetime(cls, kind: Kind) -> timedelta:
        lifetimes = {cls.Kind.UNDO_EMAIL: settings.UNDO_LIFETIME, cls.Kind.KEEP_ACCOUNT: settings.DELETION_GRACE}
        return lifetimes.get(kind, settings.LINK_LIFETIME)


class Budget(models.Model):
    """Tries left for one account or one address, spent by one atomic statement (services/security/rate_limits.py)."""

    key = models.CharField(primary_key=True, max_length=100)
    spent = models.PositiveIntegerField()
    resets_at = models.DateTimeField(db_index=True)


class KeptAnswer(models.Model):
    """The answer to a write with an Idempotency-Key (services/security/kept_answers.py). Without one, the request is
    being answered."""

    mac = models.BinaryField(primary_key=True)
    body_mac = models.BinaryField()
    sealed = models.BinaryField(null=True)
    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="+")
    begun_at = models.DateTimeField(db_index=True)


class MailOutage(models.Model):
    """One row while the mail server takes no mail from us (services/mail/server.py), none otherwise."""

    began_at = models.DateTimeField()


# --- Keys, the security log, leftovers ----------------------------------------------------------------------


class SigningKey(models.Model):
    """A key that signs access tokens. The private part is sealed with a key made from SECRET_KEY."""

    kid = models.CharField(primary_key=True, max_length=64)
    algorithm = models.CharField(max_length=10)
    sealed_private_key = models.BinaryField()
    public_jwk = models.JSONField()
    created_at = models.DateTimeField(default=now)
    signs_from = models.DateTimeField(default=now, help_text="published before; until the next key's time")


class Event(models.Model):
    """A line of a user's security log. It contains nothing secret."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="events", verbose_name=_("user"))
    kind = models.CharField(_("code"), max_length=40)
    created_at = models.DateTimeField(_("time"), default=now)
    ip = models.GenericIPAddressField(_("IP address"), null=True)
    device = models.CharField(_("device"), max_length=200, blank=True)
    session = models.ForeignKey(Session, models.SET_NULL, null=True, related_name="+")
    data = models.JSONField(_("details"), default=dict)

    class Meta:
        verbose_name, verbose_name_plural = _("event"), _("events")
        indexes = [
            models.Index("user", F("id").desc(), name="event_of_user"),
            models.Index("created_at", name="event_age"),
            # Sign-ups by network (services/staff/statistics.py).
            models.Index("created_at", condition=Q(kind="user.signed_up"), name="event_signed_up"),
        ]

    def __str__(self) -> str:
        return self.kind


class DiscardedPicture(models.Model):
    """A picture that no user has, to be removed from the bucket at `remove_at`. Written before an upload and deleted in
    the transaction that publishes the picture, so that no crash leaves an object behind."""

    key = models.CharField(primary_key=True, max_length=64)
    remove_at = models.DateTimeField(default=now, db_index=True)


class BucketOwner(models.Model):
    """One row: what the object `owner` of the bucket says if this database owns it (services/profile/objects.py)."""

    token = models.CharField(max_length=32, help_text="what the object said before")
    next_token = models.CharField(max_length=32, help_text="what it says, or is about to say")
    server = models.CharField(max_length=60, help_text="the run of Postgres that renewed it last")


class PictureUpload(models.Model):
    """A picture that an app puts into the bucket itself (picture_uploads.py). The row names its object before there is
    one and is removed after it; one without a user is to be removed."""

    class State(models.TextChoices):
        ASKED = "asked"  # the form is handed out
        QUEUED = "queued"  # the worker may take it
        DONE = "done"
        REFUSED = "refused"
        REPLACED = "replaced"  # another picture was chosen before the worker came to it

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="picture_uploads")
    key = models.CharField(max_length=64, unique=True)
    content_type = models.CharField(max_length=20)
    size = models.PositiveBigIntegerField()
    state = models.CharField(max_length=8, choices=State, default=State.ASKED)
    reason = models.CharField(max_length=40, blank=True, help_text="why it was refused: the code of an error")
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField(help_text="until when the form works")
    remove_at = models.DateTimeField(db_index=True)
    tries = models.PositiveSmallIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True, help_text="while it is at work; no other upload is meanwhile")
    not_before = models.DateTimeField(null=True, help_text="a try failed, and the next one waits")
    ip = models.GenericIPAddressField(null=True)
    device = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [models.Index("id", condition=Q(state="queued"), name="picture_upload_queued")]


class MailOwner(models.Model):
    """The account that an email in post_office's queue is about. Without a user, the account was erased: the email is
    deleted as soon as it is sent."""

    mail = models.OneToOneField("post_office.Email", models.CASCADE, primary_key=True, related_name="owner")
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="mails")

    class Meta:
        verbose_name, verbose_name_plural = _("email"), _("emails")

    def __str__(self) -> str:
        return f"mail {self.mail_id}"


class Export(models.Model):
    """A copy of a user's data, made by the worker. The row names its object in the bucket before there is one and is
    removed after it, so that no crash leaves an object behind; one without a user is to be removed."""

    class State(models.TextChoices):
        QUEUED = "queued"
        READY = "ready"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="exports")
    state = models.CharField(max_length=6, choices=State, default=State.QUEUED)
    key = models.CharField(max_length=64, unique=True)
    size = models.PositiveBigIntegerField(null=True)
    requested_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField(null=True, db_index=True)
    tries = models.PositiveSmallIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True, help_text="the end of the lease of the worker that makes it")
    ip = models.GenericIPAddressField(null=True)
    device = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint("user", condition=Q(state="queued"), name="export_one_at_a_time")]


class Tombstone(models.Model):
    """An account was erased on this day. Nothing else is kept."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    erased_on = models.DateField(_("erased on"))

    class Meta:
        verbose_name, verbose_name_plural = _("erased account"), _("erased accounts")

    def __str__(self) -> str:
        return str(self.erased_on)


class ReservedUsername(models.Model):
    """The username that an account had, as an HMAC of its skeleton. For a while only that account can take it back, so
    that nobody can impersonate its earlier owner. It has no link to a tombstone."""

    mac = models.BinaryField(primary_key=True)
    until = models.DateTimeField(db_index=True)
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="reserved_usernames")

    class Meta:
        db_table = "accounts_restingusername"  # the name of a table never changes


class ApiUse(models.Model):
    """Calls of one version of the API in one day by one version of an app (services/staff/usage.py)."""

    day = models.DateField(_("day"))
    version = models.CharField(_("API version"), max_length=10)
    app_version = models.CharField(_("app version"), max_length=32, blank=True)
    calls = models.PositiveBigIntegerField(_("calls"))

    class Meta:
        verbose_name, verbose_name_plural = _("use of the API"), _("use of the API")
        constraints = [models.UniqueConstraint("day", "version", "app_version", name="api_use_once_a_day")]

    def __str__(self) -> str:
        return f"{self.day} {self.version} {self.app_version}"


# --- Counts -------------------------------------------------------------------------------------------------

# Every trigger there is. Migration 0010 makes them and their functions; tests/services/test_counts.py compares.
TRIGGERS = {
    "accounts_users_come": "AFTER INSERT ON accounts_user REFERENCING NEW TABLE AS come",
    "accounts_users_change": "AFTER UPDATE ON accounts_user REFERENCING OLD TABLE AS gone NEW TABLE AS come",
    "accounts_users_go": "AFTER DELETE ON accounts_user REFERENCING OLD TABLE AS gone",
    "accounts_users_all_go": "AFTER TRUNCATE ON accounts_user",
    "accounts_events_come": "AFTER INSERT ON accounts_event REFERENCING NEW TABLE AS come",
}


class UserCount(models.Model):
    """How many users there are of each kind, in pieces: the number is the sum over the rows of that kind. Written by
    triggers on the table of users alone, in the transaction that changes it (services/staff/counts.py)."""

    gender = models.CharField(max_length=11)
    is_active = models.BooleanField()
    email_verified = models.BooleanField()
    count = models.BigIntegerField()


class EventCount(models.Model):
    """How many events of each kind were written on a day (UTC), in pieces like those of UserCount. They outlive the
    events."""

    day = models.DateField()
    kind = models.CharField(max_length=40)
    count = models.BigIntegerField()

    class Meta:
        indexes = [models.Index("kind", "day", name="event_count_of_day")]


# --- For GET /metrics ---------------------------------------------------------------------------------------


class SeenManager(models.Manager["Seen"]):
    def note(self, name: str, times: int = 1) -> None:
        seen = self.filter(name=name)
        if not seen.update(at=now(), times=F("times") + times):
            self.bulk_create([Seen(name=name, at=now(), times=times)], ignore_conflicts=True)

    def is_alive(self, name: str) -> None:
        """Of several at once one is enough. None waits for another, whose commit may wait for a standby."""
        with transaction.atomic():
            is_new = not self.filter(name=name).exists()
            if is_new or self.select_for_update(skip_locked=True).filter(name=name).first():
                self.note(name)


class Seen(models.Model):
    """What the worker and beat leave for GET /metrics, because they have no port of their own: when a thing was seen
    last, and how often in all."""

    BEAT, WORKER = "beat", "worker"
    MAIL_SENT, MAIL_FAILED, MAIL_PUT_OFF = "mail.sent", "mail.failed", "mail.put_off"

    name = models.CharField(primary_key=True, max_length=40)
    at = models.DateTimeField()
    times = models.PositiveBigIntegerField()

    objects = SeenManager()
