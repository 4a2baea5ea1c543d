"""The shapes of v1. What comes in is `…In`, what goes out `…Out`; none is both. The rules decide whether a value is
good: here is only its type, and that it can be stored at all. An operation returns a model or a dict; `resolve_…` says
what differs from it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import PydanticCustomError

from accounts.caller import Device
from accounts.models import Event, Export, Gender, PictureUpload, Session, User
from accounts.services.account import email_addresses
from accounts.services.profile import exports, picture_uploads, pictures
from accounts.services.security import audit
from api.errors import Action
from api.v1 import mistakes


def _storable(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("characters", "NUL")
    return value


Text = Annotated[str, Field(max_length=1000), AfterValidator(_storable)]
Secret = Annotated[str, Field(max_length=4096, json_schema_extra={"format": "password"}), AfterValidator(_storable)]
Short = Annotated[str, Field(max_length=100), AfterValidator(_storable)]


class In(Schema):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _tell_all(cls, values: Any, handler: ModelWrapValidatorHandler[Any], info: ValidationInfo) -> Any:
        """One field of a wrong shape hides no mistake in the others (api/errors.py reads what is left here)."""
        try:
            return handler(values)
        except ValidationError as error:
            if isinstance(values, dict) and info.context:
                right = cls.model_fields.keys() - {item["loc"][0] for item in error.errors() if item["loc"]}
                given = {name: values[name] for name in right & values.keys()}
                request = info.context["request"]
                request.also_wrong = mistakes.also_wrong(cls.__name__, given, request)
            raise


# --- In -----------------------------------------------------------------------------------------------------


class DeviceIn(In):
    name: Annotated[str, Field(min_length=1, max_length=100, examples=["Ada's iPhone"]), AfterValidator(_storable)]
    platform: Annotated[str, Field(max_length=50), AfterValidator(_storable)] = ""
    app_version: Annotated[str, Field(max_length=50), AfterValidator(_storable)] = ""


def device(given: DeviceIn | None) -> Device | None:
    return Device(given.name, given.platform, given.app_version) if given else None


class SignUpIn(In):
    username: Text = Field(examples=["ada"])
    email: Text = Field(examples=["ada@example.com"])
    password: Secret
    first_name: Text = ""
    last_name: Text = ""
    gender: Gender = Gender.UNSPECIFIED
    time_zone: Short = Field("", description="IANA name of the device's zone. Unknown names are ignored.")
    device: DeviceIn | None = None


class PictureUploadIn(In):
    content_type: Short = Field(description="One of `content_types` in the config.", examples=["image/jpeg"])
    size: int = Field(description="Bytes, exactly.", examples=[482133])


class ConfirmEmailIn(In):
    """Either `email` and `code`, or the `key` of the link."""

    email: Text = ""
    code: Short = Field("", examples=["48291375"])
    key: Text = ""
    device: DeviceIn | None = None


class EmailIn(In):
    email: Text


class CodeIn(In):
    code: Short = Field(examples=["48291375"])


class SignInIn(In):
    login: Text = Field(description="A username or an email address.")
    password: Secret
    device: DeviceIn | None = None


class SignInByCodeIn(In):
    login: Text = Field(description="The login that the code was requested with.")
    code: Short = Field(examples=["48291375"])
    device: DeviceIn | None = None


class SecondStepIn(In):
    ticket: Secret = Field(description="From the `mfa_required` problem.")
    code: Short = Field(description="From the authenticator app, or a recovery code.", examples=["492039"])
    device: DeviceIn | None = None


# What a credential manager answers: the JSON of WebAuthn, as browsers and phones write it.
Credential = Annotated[dict[str, Any], Field(description="The response JSON of WebAuthn, as the device gives it.")]


class PasskeySignInIn(In):
    state: Secret
    credential: Credential
    device: DeviceIn | None = None


class AddPasskeyIn(In):
    state: Secret
    credential: Credential
    name: Short = Field("", description="Empty: the name of the device.", examples=["Ada's iPhone"])


class RenamePasskeyIn(In):
    name: Short


class ConfirmTotpIn(In):
    state: Secret = Field(description="From `beginTotp`.")
    code: Short = Field(examples=["492039"])


class ReauthenticateIn(In):
    password: Secret
    code: Short = Field("", description="Of the second step, after `mfa_required`.")


class KeyIn(In):
    key: Text = Field(description="From the address of the link that opened the app.")


class RefreshTokenIn(In):
    refresh_token: Secret


class LoginIn(In):
    login: Text = Field(description="A username or an email address.")


class ResetPasswordIn(In):
    """Either `login` and `code`, or the `key` of the link."""

    new_password: Secret
    login: Text = ""
    code: Short = ""
    key: Text = ""


class ProfileIn(In):
    """Only the fields that are sent are changed."""

    username: Text = ""
    first_name: Text = ""
    last_name: Text = ""
    gender: Gender = Gender.UNSPECIFIED
    language: Short = Field(
        "", description="Of emails: one of `languages` in the config. Empty: the service's default."
    )
    time_zone: Short = Field(
        "", description="Of times in emails and on pages: an IANA name. Empty: the service's default.",
        examples=["Europe/Berlin"],
    )  # fmt: skip


class ChangePasswordIn(In):
    current_password: Secret
    new_password: Secret


class ChangeEmailIn(In):
    email: Text
    password: Secret


class DeletionIn(In):
    password: Secret = Field("", description="Optional for 10 minutes after this device signed in.")


class PageIn(In):
    limit: int = Field(50, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=200)] = Field("", description="`next` of the page before.")


class SessionPageIn(In):
    page_size: int | None = Field(None, ge=1, le=100, description="Devices of one page. Left out: all of them.")
    cursor: Annotated[str, Field(max_length=200)] = Field(
        "", description="`next` of the page before, with the same `page_size`."
    )


class IdPageIn(PageIn):
    limit: int = Field(50, ge=1, le=1000)


# --- Out ----------------------------------------------------------------------------------------------------


class PictureOut(Schema):
    url: str = Field(description="A signed address that expires. Get the profile again when it stops working.")
    sizes: dict[str, str] = Field(description="Addresses by the length of an edge in pixels: 64, 256, 1024.")
    placeholder: str | None = Field(
        description="A BlurHash (blurha.sh) to show until the picture is there; null for an old picture."
    )


class ProfileOut(Schema):
    id: UUID
    username: str = Field(description="In lower case, as it is compared.", examples=["ada"])
    email: str | None = Field(
        description="In lower case, its domain in ASCII (`xn--…`), as it is compared. null if the address was removed "
        "because someone else confirmed it."
    )
    email_verified: bool
    first_name: str
    last_name: str
    gender: Gender
    language: str = Field(description="Of emails.", examples=["en"])
    time_zone: str = Field(
        description="Of times in emails and on pages. Empty: none was chosen yet, so the service's default applies.",
        examples=["Europe/Berlin"],
    )
    picture: PictureOut | None
    created_at: datetime
    updated_at: datetime
    deletion_planned_for: datetime | None = Field(
        validation_alias="deletes_at",
        description="When the account will be erased, if that is planned: say so, and offer `cancelDeletion`.",
    )
    username_display: str = Field(description="The username as its owner typed it: show this one.", examples=["Ada"])
    email_display: str | None = Field(
        description="The address as people know it: show this one.", examples=["ada@bücher.example"]
    )

    @staticmethod
    def resolve_email(user: User) -> str | None:
        return user.email or None

    @staticmethod
    def resolve_email_display(user: User) -> str | None:
        return user.email_display or None

    @staticmethod
    def resolve_language(user: User) -> str:
        return user.language or settings.LANGUAGE_CODE

    @staticmethod
    def resolve_picture(user: User) -> dict[str, Any] | None:
        if not (signed := pictures.addresses(user)):
            return None
        sizes = {str(size): url for size, url in signed.items()}
        return {"url": signed[256], "sizes": sizes, "placeholder": user.picture_placeholder or None}


class PictureUploadFormOut(Schema):
    """POST it as multipart/form-data to `url`: the fields first, then the file as `file`."""

    id: UUID
    url: str
    fields: dict[str, str]
    expires_at: datetime = Field(description="When the storage stops accepting it.")


class PictureUploadOut(Schema):
    id: UUID
    state: Literal["asked", "queued", "done", "refused", "replaced"] = Field(
        description="`replaced`: another picture was chosen before this one was ready. New states may come."
    )
    code: str | None = Field(description="Why it was refused, as in an error.", examples=["invalid_picture"])
    detail: str | None = Field(description="The same as a sentence.")

    @staticmethod
    def resolve_code(upload: PictureUpload) -> str | None:
        return upload.reason or None

    @staticmethod
    def resolve_detail(upload: PictureUpload) -> str | None:
        words = picture_uploads.words(upload)
        return str(words) if words else None


class TokensOut(Schema):
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds.")
    refresh_token: str
    session_id: UUID


class SignedInOut(Schema):
    user: ProfileOut
    tokens: TokensOut


class AcceptedOut(Schema):
    detail: str = Field(description="The same whether the account exists or not.")


class UndoneOut(Schema):
    """What an app needs to ask for the new password at once."""

    username: str
    reset_key: str = Field(description="The `key` of `resetPassword`, for an hour.")


class MailOut(AcceptedOut):
    mail_delay: int = Field(
        description="How late emails are right now, for everyone, in seconds; 0 if they leave at once.", examples=[0]
    )


class EmailOut(Schema):
    email: str | None = Field(description="As in the profile.")
    email_verified: bool
    pending_email: str | None = Field(description="A requested address that isn't confirmed yet.")
    delivery: Literal["queued", "sent", "bounced"] | None = Field(
        description="What happened to the email with the code, sent to `pending_email` or else to `email`. `bounced`: "
        "check the address. null: no email is on its way; request one."
    )
    since: datetime | None = Field(description="When that email was requested.")
    email_display: str | None = Field(description="As in the profile.")
    pending_email_display: str | None = Field(description="The requested address as people know it.")


def email(user: User, progress: email_addresses.Progress | None) -> dict[str, Any]:
    pending = progress if progress and progress.email != user.email else None
    return {
        "email": user.email or None,
        "email_display": user.email_display or None,
        "email_verified": user.email_verified,
        "pending_email": pending.email if pending else None,
        "pending_email_display": pending.email_display if pending else None,
        "delivery": progress.delivery if progress else None,
        "since": progress.since if progress else None,
    }


class SessionOut(Schema):
    id: UUID
    kind: Literal["browser", "app"]
    name: str
    platform: str = Field(description="As the app said at its sign-in; empty: it didn't, or it is a browser.")
    app_version: str = Field(description="The same.")
    ip: str | None
    created_at: datetime
    last_used_at: datetime
    current: bool

    @staticmethod
    def resolve_current(session: Session, context: dict[str, Any]) -> bool:
        return bool(session == context["request"].user_session)


class SessionsOut(Schema):
    sessions: list[SessionOut]
    next: str | None


class EventOut(Schema):
    id: UUID
    kind: str = Field(description="noun.past_participle; new kinds may come.", examples=["session.started"])
    detail: str = Field(description="A sentence in the requested language.")
    created_at: datetime
    ip: str | None
    device: str
    session_id: UUID | None

    @staticmethod
    def resolve_detail(event: Event) -> str:
        return str(audit.WORDS[audit.Kind(event.kind)])


class EventsOut(Schema):
    """The newest first."""

    events: list[EventOut]
    next: str | None


class UsersOut(Schema):
    """Ids of the active users, the oldest first, and exact counts of all of them with every page."""

    user_ids: list[UUID]
    count_female: int
    count_male: int
    count_unspecified: int
    next: str | None


class DeletionOut(Schema):
    erased_on: datetime | None = Field(description="When the account will be erased; null: no deletion is planned.")


class ExportOut(Schema):
    state: Literal["none", "queued", "ready", "failed"]
    requested_at: datetime | None
    expires_at: datetime | None = Field(description="When the copy will be removed; null while there is none.")
    size: int | None = Field(description="Bytes.")
    url: str | None = Field(description="A signed address that expires. Request it again when it stops working.")


def export(found: Export | None) -> dict[str, Any]:
    return {
        "state": found.state if found else "none",
        "requested_at": found.requested_at if found else None,
        "expires_at": found.expires_at if found else None,
        "size": found.size if found else None,
        "url": exports.address(found),
    }


class CeremonyOut(Schema):
    options: dict[str, Any] = Field(description="The `publicKey` JSON of WebAuthn: hand it to the credential manager.")
    state: str = Field(description="Send it back with the answer, within 5 minutes.")


class PasskeyOut(Schema):
    id: UUID
    name: str
    synced: bool = Field(description="Whether the device may copy it to its owner's others.")
    created_at: datetime
    last_used_at: datetime | None


class MfaOut(Schema):
    two_step_since: datetime | None = Field(description="null: signing in with a password needs no second step.")
    recovery_codes_left: int
    passkeys: list[PasskeyOut]


class TotpOut(Schema):
    secret: str = Field(description="Base32 (RFC 6238: SHA-1, 6 digits, 30 s), for typing into an app.")
    uri: str = Field(description="otpauth://, for a QR code or a button that opens the app.")
    state: str = Field(description="Send it back with a code, within 30 minutes.")


class RecoveryCodesOut(Schema):
    recovery_codes: list[str] = Field(description="Each works once. They can't be read again.")


class PasswordRuleOut(Schema):
    min_length: int
    max_length: int


class PictureRuleOut(Schema):
    max_bytes: int
    max_pixels: int
    max_pixels_by_type: dict[str, int] = Field(
        description="The same for each content type: some take more memory to decode."
    )
    content_types: list[str]
    sizes: list[int]


class ConfigOut(Schema):
    """What an app must not hard-code."""

    signup_open: bool
    email_verification: Literal["optional", "mandatory"]
    password: PasswordRuleOut
    picture: PictureRuleOut
    sign_in_by_code: bool
    languages: list[str]
    support_email: str | None = Field(description="Where people can write for help, if set.")


class FieldProblemOut(Schema):
    field: str
    code: str
    detail: str


class ProblemOut(Schema):
    """RFC 9457. `code` is stable for ever; `detail` is in the language asked for."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    action: Action
    errors: list[FieldProblemOut] = []
    retry_after: int | None = Field(None, description="Seconds; with 429 and 503.")
    ticket: str | None = Field(None, description="With `mfa_required`: for `finishSignIn`, good for 5 minutes.")
