"""The shapes of v1. What comes in is `…In`, what goes out `…Out`; none is both. The rules decide whether a value is
good: here is only its type, and that it can be stored at all. An operation returns a model or a dict; `resolve_…` says
what differs from it."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import PydanticCustomError

from accounts.caller import Device
from accounts.models import Event, Export, Gender, Identity, PictureUpload, Session, User
from accounts.services.account import email_addresses
from accounts.services.authentication import identities, passkeys
from accounts.services.credentials import identifiers
from accounts.services.profile import exports, picture_uploads, pictures, profiles
from accounts.services.security import audit
from accounts.services.staff.directory import PublicProfile
from api.errors import Action
from api.v1 import mistakes


def _storable(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("characters", "NUL")
    return value


def _within(least: int, most: int) -> Callable[[int], int]:
    """A check whose refusal names both bounds; pydantic's own names only the one that was crossed."""

    def check(value: int) -> int:
        if least <= value <= most:
            return value
        raise PydanticCustomError("out_of_range", "out of range", {"n": least, "most": most})

    return check


# What a shape takes. A rule may take less, and says it in words of its own: `_says` tells the document.
Text = Annotated[str, Field(max_length=1000), AfterValidator(_storable)]
Secret = Annotated[str, Field(max_length=4096, json_schema_extra={"format": "password"}), AfterValidator(_storable)]
Short = Annotated[str, Field(max_length=100), AfterValidator(_storable)]


def _says(description: str, *examples: Any, **bounds: Any) -> Any:
    """What the document says of a field. The example of a body is made of those of its fields."""
    said: dict[str, Any] = {"examples": list(examples)} if examples else {}
    return Field(description=description, **(said | ({"json_schema_extra": bounds} if bounds else {})))


Username = Annotated[
    Text,
    _says(
        "3 to 30 letters of one alphabet, digits, dots, hyphens and underscores; 2 are enough in Chinese, Japanese, "
        "Korean. Case makes no difference.",
        "ada", minLength=2, maxLength=identifiers.MAX_LENGTH,
    ),
]  # fmt: skip
Email = Annotated[
    Text,
    _says(
        "An email address; its domain in any script.",
        "ada@example.com", format="idn-email", maxLength=identifiers.EMAIL_MAX_LENGTH,
    ),
]  # fmt: skip
EmailOfSignUp = Annotated[Text, _says("The address of the sign-up.", "ada@example.com", format="idn-email")]
FirstName = Annotated[Text, _says("May be empty.", "Ada", maxLength=profiles.NAME_MAX_LENGTH)]
LastName = Annotated[Text, _says("May be empty.", "Lindqvist", maxLength=profiles.NAME_MAX_LENGTH)]
Login = Annotated[Text, _says("A username or an email address.", "ada")]
Password = Annotated[Secret, _says("The account's password.", "plum tractor lagoon")]
NewPassword = Annotated[
    Secret,
    _says("`getConfig` has its least and greatest length. Common and stolen ones are refused.", "velvet harbour anvil"),
]
EmailCode = Annotated[Short, _says("The 8 digits from the email.", "48291375")]
MfaCode = Annotated[Short, _says("6 digits from the authenticator app.", "492039")]
LinkKey = Annotated[Text, _says("From the address of the link that opened the app.")]
State = Annotated[Secret, _says("The `state` that came with the options.", "eyJraW5kIjoi…")]
IANA = "An IANA name, such as Europe/Berlin."


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
    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_storable)] = _says(
        "What people call it, for their list of devices.", "Ada's iPhone"
    )
    platform: Annotated[
        str, Field(max_length=50), AfterValidator(_storable), _says("System and version.", "iOS 20")
    ] = ""
    app_version: Annotated[str, Field(max_length=50), AfterValidator(_storable), _says("Of the app.", "1.0.0")] = ""


def device(given: DeviceIn | None) -> Device | None:
    return Device(given.name, given.platform, given.app_version) if given else None


ThisDevice = Annotated[
    DeviceIn | None, _says("The device that is signed in by this. Left out: told by its User-Agent.")
]


class SignUpIn(In):
    username: Username
    email: Email
    password: Annotated[NewPassword, Field(examples=["plum tractor lagoon"])]
    first_name: FirstName = ""
    last_name: LastName = ""
    gender: Annotated[Gender, _says("May be left out.")] = Gender.UNSPECIFIED
    time_zone: Annotated[Short, _says(IANA + " Of the device. Unknown names are ignored.", "Europe/Berlin")] = ""
    device: ThisDevice = None


class PictureUploadIn(In):
    content_type: Short = _says("One of `content_types` in the config, or another name of it.", "image/jpeg")
    size: int = _says("Bytes, exactly; at most `max_bytes` in the config.", 482133, minimum=1)


class ConfirmEmailIn(In):
    """Either `email` and `code`, or the `key` of the link."""

    email: EmailOfSignUp = ""
    code: EmailCode = ""
    key: LinkKey = ""
    device: ThisDevice = None


class EmailIn(In):
    email: EmailOfSignUp


class CodeIn(In):
    code: EmailCode


class SignInIn(In):
    login: Login
    password: Password
    device: ThisDevice = None


class SignInByCodeIn(In):
    login: Annotated[Text, _says("The login that the code was requested with.", "ada")]
    code: EmailCode
    device: ThisDevice = None


class SecondStepIn(In):
    ticket: Secret = _says("From the `mfa_required` problem. Good for 5 minutes.", "eyJ1c2VyIjoi…")
    code: Short = _says("6 digits from the authenticator app, or a recovery code.", "492039")
    device: ThisDevice = None


# What a credential manager answers: the JSON of WebAuthn, as browsers and phones write it.
_CREDENTIAL = "The response JSON of WebAuthn, as the device gives it."
_ID = "rXYK5xH9mQ2vT1bq0cJ4Lw"


class PasskeySignInIn(In):
    state: State
    credential: dict[str, Any] = _says(
        _CREDENTIAL,
        {
            "id": _ID, "rawId": _ID, "type": "public-key", "clientExtensionResults": {},
            "response": {"clientDataJSON": "eyJ0eXBlIjoi…", "authenticatorData": "SZYN5YgO…", "signature": "MEUCIQ…"},
        },
    )  # fmt: skip
    device: ThisDevice = None


class AddPasskeyIn(In):
    state: State
    credential: dict[str, Any] = _says(
        _CREDENTIAL,
        {
            "id": _ID, "rawId": _ID, "type": "public-key", "clientExtensionResults": {},
            "response": {"clientDataJSON": "eyJ0eXBlIjoi…", "attestationObject": "o2NmbXRk…"},
        },
    )  # fmt: skip
    name: Annotated[
        Short, _says("Empty: the name of the device.", "Ada's iPhone", maxLength=passkeys.NAME_MAX_LENGTH)
    ] = ""


class RenamePasskeyIn(In):
    name: Short = _says("Another name for it.", "My phone", minLength=1, maxLength=passkeys.NAME_MAX_LENGTH)


class ConfirmTotpIn(In):
    state: Secret = _says("From `beginTotp`. Good for 30 minutes.", "eyJzZWNyZXQi…")
    code: MfaCode


_NATIVE = _says("The `id` of one of `providers` in the config.", "google")
# Microsoft's ID tokens name every group.
LongSecret = Annotated[
    str, Field(max_length=16_384, json_schema_extra={"format": "password"}), AfterValidator(_storable)
]
IdToken = Annotated[LongSecret, _says("As the provider's SDK gives it.", "eyJhbGciOiJSUzI1NiIs…")]
ProviderState = Annotated[Secret, _says("From `beginProviderSignIn`.", "eyJraW5kIjoi…")]
NewcomersTicket = Annotated[
    LongSecret, _says("From the `identity_unknown` problem. Good for 10 minutes.", "eyJzYWlkIjoi…")
]


class BeginProviderIn(In):
    provider: Annotated[Short, _NATIVE]


class ProviderSignInIn(In):
    provider: Annotated[Short, _NATIVE]
    id_token: IdToken
    state: ProviderState
    create: Annotated[bool, _says("false: ask before an account is made.", True)] = True
    first_name: Annotated[
        Text, _says("Of a newcomer, where the SDK tells it and the token doesn't (Apple).", "Ada")
    ] = ""
    last_name: Annotated[Text, _says("As `first_name`.", "Lindqvist")] = ""
    device: ThisDevice = None


class ProviderSignUpIn(In):
    ticket: NewcomersTicket
    username: Username = ""
    email: Email = ""
    first_name: FirstName = ""
    last_name: LastName = ""
    device: ThisDevice = None


class LinkIdentityIn(In):
    """Either `provider`, `id_token` and `state`, or a `ticket`."""

    provider: Annotated[Short, _NATIVE] = ""
    id_token: IdToken = ""
    state: ProviderState = ""
    ticket: Annotated[LongSecret, _says("From `identity_unknown`, after the person has signed in another way.")] = ""


class ReauthenticateIn(In):
    """Either `password`, or `provider`, `id_token` and `state`."""

    password: Password = ""
    provider: Annotated[Short, _says("The `id` of a connected one.")] = ""
    id_token: Annotated[IdToken, Field(examples=[])] = ""
    state: Annotated[ProviderState, Field(examples=[])] = ""
    code: Annotated[Short, _says("Only after `mfa_required`: from the authenticator app, or a recovery code.")] = ""


class KeyIn(In):
    key: Text = _says("From the address of the link that opened the app.", "b3f1c2…-Vh1s…")


class RefreshTokenIn(In):
    refresh_token: Secret = _says("The newest one of this device.", "AAAAAWcx…")


class LoginIn(In):
    login: Login


class ResetPasswordIn(In):
    """Either `login` and `code`, or the `key` of the link."""

    new_password: NewPassword
    login: Annotated[Text, _says("The login that the code was requested with.", "ada")] = ""
    code: EmailCode = ""
    key: LinkKey = ""


class ProfileIn(In):
    """Only the fields that are sent are changed."""

    username: Username = ""
    first_name: FirstName = ""
    last_name: LastName = ""
    gender: Annotated[Gender, _says("`unspecified` says nothing.")] = Gender.UNSPECIFIED
    language: Annotated[
        Short, _says("Of emails: one of `languages` in the config. Empty: the service's default.", "en")
    ] = ""
    time_zone: Annotated[
        Short, _says(IANA + " Of times in emails and on pages. Empty: the service's default.", "Europe/Berlin")
    ] = ""


class ChangePasswordIn(In):
    current_password: Annotated[
        Secret, _says("Left out only by an account without a password.", "plum tractor lagoon")
    ] = ""
    new_password: NewPassword


class ChangeEmailIn(In):
    email: Annotated[Email, _says("The new address.", "ada@example.net")]
    password: Annotated[Secret, _says("Left out only by an account without one.", "plum tractor lagoon")] = ""


class DeletionIn(In):
    password: Annotated[
        Secret, _says("Optional for 10 minutes after this device signed in.", "plum tractor lagoon")
    ] = ""


class PageIn(In):
    limit: Annotated[int, AfterValidator(_within(1, 100))] = Field(
        50, description="The most items of one page: 1 to 100.", json_schema_extra={"minimum": 1, "maximum": 100}
    )
    cursor: Annotated[str, Field(max_length=200)] = Field("", description="`next` of the page before.")


class SessionPageIn(In):
    page_size: (
        Annotated[int, AfterValidator(_within(1, 100)), Field(json_schema_extra={"minimum": 1, "maximum": 100})] | None
    ) = Field(None, description="Devices of one page: 1 to 100. Left out: all of them.")
    cursor: Annotated[str, Field(max_length=200)] = Field(
        "", description="`next` of the page before, with the same `page_size`."
    )


class IdPageIn(PageIn):
    limit: Annotated[int, AfterValidator(_within(1, 1000))] = Field(
        50, description="The most ids of one page: 1 to 1000.", json_schema_extra={"minimum": 1, "maximum": 1000}
    )


class IdsIn(In):
    ids: list[UUID] = Field(min_length=1, max_length=100, description="Up to 100. Repeat it for each: `ids=…&ids=…`.")


# --- Out ----------------------------------------------------------------------------------------------------

Id = Annotated[UUID, Field(examples=["01936d2e-7b5c-7a31-9c1f-2f6c8e4b7d10"])]
Time = Annotated[datetime, Field(examples=["2026-11-28T11:20:00.123Z"])]
Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]
Address = Annotated[str, _says("An email address.", "ada@example.com", format="email")]
DisplayedAddress = Annotated[str, _says("Its domain in any script.", "ada@example.com", format="idn-email")]
_SIGNED = "https://storage.example.com/users/pictures/8f2c/{}.webp?X-Amz-Signature=5d41"


class PictureOut(Schema):
    url: Url = _says("A signed address that expires. Get the profile again when it stops working.", _SIGNED.format(256))
    sizes: dict[str, Url] = _says(
        "Addresses by the length of an edge in pixels: 64, 256, 1024.",
        {size: _SIGNED.format(size) for size in ("64", "256", "1024")},
    )
    placeholder: str | None = _says(
        "A BlurHash (blurha.sh) to show until the picture is there; null for an old picture.",
        "LEHV6nWB2yk8pyo0adR*.7kCMdnj",
    )


def picture(key: str, placeholder: str) -> dict[str, Any] | None:
    if not (signed := pictures.addresses_of(key)):
        return None
    sizes = {str(size): url for size, url in signed.items()}
    return {"url": signed[256], "sizes": sizes, "placeholder": placeholder or None}


class ProfileOut(Schema):
    id: Id = Field(description="Never changes.")
    username: str = _says("In lower case, as it is compared. May change.", "ada")
    email: Address | None = _says(
        "In lower case, its domain in ASCII (`xn--…`), as it is compared. null if the address was removed "
        "because someone else confirmed it."
    )
    email_verified: bool = _says("Whether the person has shown that they read its email.", True)
    first_name: str = _says("May be empty.", "Ada")
    last_name: str = _says("May be empty.", "Lindqvist")
    gender: Gender = Field(description="`unspecified` if the person has not said it.")
    language: str = _says("Of emails.", "en")
    time_zone: str = _says(
        "Of times in emails and on pages. Empty: none was chosen yet, so the service's default applies.",
        "Europe/Berlin",
    )
    picture: PictureOut | None = Field(description="null if there is none.")
    created_at: Time = Field(description="When the account was created.")
    updated_at: Time = Field(description="When anything of this profile last changed.")
    deletion_planned_for: Time | None = Field(
        validation_alias="deletes_at",
        description="When the account will be erased, if that is planned: say so, and offer `cancelDeletion`.",
        examples=[None],
    )
    username_display: str = _says("The username as its owner typed it: show this one.", "Ada")
    email_display: DisplayedAddress | None = Field(
        description="The address as people know it: show this one.", examples=["ada@example.com"]
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
        return picture(user.picture, user.picture_placeholder)


class PictureUploadFormOut(Schema):
    """POST it as multipart/form-data to `url`: the fields first, then the file as `file`."""

    id: Id = Field(description="For `completePictureUpload` and `getPictureUpload`.")
    url: Url = _says("Where to POST the form.", "https://storage.example.com/users")
    fields: dict[str, str] = _says(
        "The fields of the form, in this order, before the file.",
        {"key": "incoming/8f2c41", "content-type": "image/jpeg", "policy": "eyJleHBpcmF0aW9u…"},
    )
    expires_at: Time = Field(description="When the storage stops accepting it.")


class PictureUploadOut(Schema):
    id: Id = Field(description="As `beginPictureUpload` answered.")
    state: Literal["asked", "queued", "done", "refused", "replaced"] = _says(
        "`replaced`: another picture was chosen before this one was ready. New states may come.", "queued"
    )
    code: str | None = Field(description="Why it was refused, as in an error.", examples=[None])
    detail: str | None = Field(description="The same as a sentence.", examples=[None])

    @staticmethod
    def resolve_code(upload: PictureUpload) -> str | None:
        return upload.reason or None

    @staticmethod
    def resolve_detail(upload: PictureUpload) -> str | None:
        words = picture_uploads.words(upload)
        return str(words) if words else None


class TokensOut(Schema):
    access_token: str = _says("Send it as `Authorization: Bearer …`. Opaque to an app.", "eyJ0eXAiOiJhdCtqd3Qi…")
    token_type: Literal["Bearer"] = Field(description="Always `Bearer`.")
    expires_in: int = _says("Seconds that the access token works.", 900)
    refresh_token: str = _says("Store it safely: it gives access to the account.", "AAAAAWcx…")
    session_id: Id = Field(description="This device, as in `listSessions`.")


class SignedInOut(Schema):
    user: ProfileOut = Field(description="The signed-in user.")
    tokens: TokensOut = Field(description="Of this device.")


class AcceptedOut(Schema):
    detail: str = _says("The same whether the account exists or not.", "Enter the code we emailed you.")


class UndoneOut(Schema):
    """What an app needs to ask for the new password at once."""

    username: str = _says("Whose change was undone.", "ada")
    reset_key: str = _says("The `key` of `resetPassword`, for an hour.", "b3f1c2…-Vh1s…")


class MailOut(AcceptedOut):
    mail_delay: int = _says("How late emails are right now, for everyone, in seconds; 0 if they leave at once.", 0)


class EmailOut(Schema):
    email: Address | None = Field(description="As in the profile.")
    email_verified: bool = _says("As in the profile.", False)
    pending_email: Address | None = Field(
        description="A requested address that isn't confirmed yet.", examples=["ada@example.net"]
    )
    delivery: Literal["queued", "sent", "bounced"] | None = _says(
        "What happened to the email with the code, sent to `pending_email` or else to `email`. `bounced`: "
        "check the address. null: no email is on its way; request one.",
        "sent",
    )
    since: Time | None = Field(description="When that email was requested.")
    email_display: DisplayedAddress | None = Field(description="As in the profile.")
    pending_email_display: DisplayedAddress | None = Field(
        description="The requested address as people know it.", examples=["ada@example.net"]
    )


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
    id: Id = Field(description="For `endSession`.")
    kind: Literal["browser", "app"] = _says("What is signed in.", "app")
    name: str = _says("What people call it.", "Ada's iPhone")
    platform: str = _says("As the app said at its sign-in; empty: it didn't, or it is a browser.", "iOS 20")
    app_version: str = _says("As the app said at its sign-in; empty as well.", "1.0.0")
    ip: str | None = _says("Where it was last used from.", "203.0.113.7")
    created_at: Time = Field(description="When it signed in.")
    last_used_at: Time = Field(description="To the minute or so.")
    current: bool = _says("Whether it is the one that asks.", True)

    @staticmethod
    def resolve_current(session: Session, context: dict[str, Any]) -> bool:
        return bool(session == context["request"].user_session)


_NEXT = "The `cursor` of the next page; null on the last."


class SessionsOut(Schema):
    sessions: list[SessionOut] = Field(description="The one used last first.")
    next: str | None = Field(description=_NEXT, examples=[None])


class EventOut(Schema):
    id: Id = Field(description="Never changes.")
    kind: str = _says("noun.past_participle; new kinds may come.", "session.started")
    detail: str = _says("A sentence in the requested language.", "Signed in")
    created_at: Time = Field(description="When it happened.")
    ip: str | None = _says("Where the request came from.", "203.0.113.7")
    device: str = _says("What the device was called then.", "Ada's iPhone")
    session_id: Id | None = Field(description="The device, as in `listSessions`, if one was signed in.")

    @staticmethod
    def resolve_detail(event: Event) -> str:
        return str(audit.WORDS[audit.Kind(event.kind)])


class EventsOut(Schema):
    """The newest first."""

    events: list[EventOut] = Field(description="The newest first.")
    next: str | None = Field(description=_NEXT, examples=[None])


class UsersOut(Schema):
    """Ids of the active users, the oldest first, and exact counts of all of them with every page."""

    user_ids: list[Id] = Field(description="The oldest account first.")
    count_female: int = _says("Of all active users, not only of this page.", 1)
    count_male: int = _says("Of all active users, not only of this page.", 0)
    count_unspecified: int = _says("Of all active users, not only of this page.", 0)
    next: str | None = Field(description=_NEXT, examples=[None])


class PublicProfileOut(Schema):
    """What people who are signed in can see of each other."""

    id: Id = Field(description="Never changes.")
    username: str = _says("May change.", "ada")
    username_display: str = _says("The username as its owner typed it: show this one.", "Ada")
    first_name: str = _says("Empty if the operator doesn't show names.", "Ada")
    last_name: str = _says("Empty if the operator doesn't show names.", "Lindqvist")
    picture: PictureOut | None = Field(description="null if there is none.")

    @staticmethod
    def resolve_picture(found: PublicProfile) -> dict[str, Any] | None:
        return picture(found.picture, found.picture_placeholder)


class PublicProfilesOut(Schema):
    users: list[PublicProfileOut] = Field(description="In the order of the ids.")


class DeletionOut(Schema):
    erased_on: Time | None = Field(description="When the account will be erased; null: no deletion is planned.")


class ExportOut(Schema):
    state: Literal["none", "queued", "ready", "failed"] = _says("`none`: no copy was requested.", "ready")
    requested_at: Time | None = Field(description="When it was requested.")
    expires_at: Time | None = Field(description="When the copy will be removed; null while there is none.")
    size: int | None = _says("Bytes.", 48213)
    url: Url | None = _says(
        "A signed address that expires. Request it again when it stops working.",
        "https://storage.example.com/users/exports/4e1d.zip?X-Amz-Signature=5d41",
    )


def export(found: Export | None) -> dict[str, Any]:
    return {
        "state": found.state if found else "none",
        "requested_at": found.requested_at if found else None,
        "expires_at": found.expires_at if found else None,
        "size": found.size if found else None,
        "url": exports.address(found),
    }


class CeremonyOut(Schema):
    options: dict[str, Any] = _says(
        "The `publicKey` JSON of WebAuthn: hand it to the credential manager.",
        {"challenge": "7Nd0iUYcvDU1B0TaKr7Pqg"},
    )
    state: str = _says("Send it back with the answer, within 5 minutes.", "eyJraW5kIjoi…")


class ProviderBegunOut(Schema):
    nonce: str = _says("For the provider's SDK, as it is or as its SHA-256 in hex.", "wXo3v8Jk2QmZt7Yc1RfLhB0nPq5sUaDe")
    state: str = _says("Send it back with the ID token.", "eyJraW5kIjoi…")
    expires_in: int = _says("Seconds that both are good for.", 600)


class IdentityOut(Schema):
    id: Id = Field(description="For `unlinkIdentity`.")
    provider: str = _says("As in the config, if it is still there.", "google")
    name: str = _says("What people call the provider.", "Google")
    email: Address | None = Field(
        description="The address there, as the provider said last; null: it said none.", examples=["ada@gmail.com"]
    )
    created_at: Time = Field(description="When it was connected.")
    last_used_at: Time | None = Field(description="When it last signed in; null: never yet.")

    @staticmethod
    def resolve_name(identity: Identity) -> str:
        return identities.name_of(identity)

    @staticmethod
    def resolve_email(identity: Identity) -> str | None:
        return identity.email or None


class IdentitiesOut(Schema):
    identities: list[IdentityOut] = Field(description="The oldest first.")
    has_password: bool = _says("Whether the account has a password.", True)


class SuggestionOut(Schema):
    """For the form of a new account. Any may be empty."""

    username: str = _says("One that is free now.", "ada")
    first_name: str = _says("As the provider says.", "Ada")
    last_name: str = _says("As the provider says.", "Lindqvist")
    email: str = _says("As the provider says.", "ada@gmail.com")


class PasskeyOut(Schema):
    id: Id = Field(description="For `renamePasskey` and `removePasskey`.")
    name: str = _says("What people call it.", "Ada's iPhone")
    synced: bool = _says("Whether the device may copy it to its owner's others.", True)
    created_at: Time = Field(description="When it was added.")
    last_used_at: Time | None = Field(description="null: never yet.")


class MfaOut(Schema):
    two_step_since: Time | None = Field(description="null: signing in with a password needs no second step.")
    recovery_codes_left: int = _says("Of ten.", 10)
    passkeys: list[PasskeyOut] = Field(description="The oldest first.")


class TotpOut(Schema):
    secret: str = _says("Base32 (RFC 6238: SHA-1, 6 digits, 30 s), for typing into an app.", "JBSWY3DPEHPK3PXP")
    uri: Url = _says(
        "otpauth://, for a QR code or a button that opens the app.",
        "otpauth://totp/Crew:ada?secret=JBSWY3DPEHPK3PXP&issuer=Crew",
    )
    state: str = _says("Send it back with a code, within 30 minutes.", "eyJzZWNyZXQi…")


class RecoveryCodesOut(Schema):
    recovery_codes: list[str] = _says(
        "Each works once. They can't be read again.", ["abcd-efgh-jkmn", "pqrs-tuvw-xyz2"]
    )


class PasswordRuleOut(Schema):
    min_length: int = _says("Characters.", 12)
    max_length: int = _says("Characters.", 128)


class PictureRuleOut(Schema):
    max_bytes: int = _says("The largest file.", 10485760)
    max_pixels: int = _says("Width times height.", 50000000)
    max_pixels_by_type: dict[str, int] = _says(
        "The same for each content type: some take more memory to decode.", {"image/jpeg": 50000000}
    )
    content_types: list[str] = _says("What is accepted.", ["image/jpeg"])
    sizes: list[int] = _says("Lengths of an edge in pixels, as in `picture.sizes` of the profile.", [64, 256, 1024])


class ProviderOut(Schema):
    id: str = _says("For `beginProviderSignIn`.", "google")
    name: str = _says("What people call it.", "Google")
    native: bool = _says("Whether an app can sign in with its ID tokens; others need a browser.", True)
    client_ids: list[str] = _says("Those that its ID tokens may be made for.", ["4711.apps.googleusercontent.com"])


class ConfigOut(Schema):
    """What an app must not hard-code."""

    signup_open: bool = _says("Whether anybody may create an account.", True)
    email_verification: Literal["optional", "mandatory"] = _says(
        "`mandatory`: `signUp` answers 202, and tokens come with `confirmEmail`.", "optional"
    )
    password: PasswordRuleOut = Field(description="What a new password must be.")
    picture: PictureRuleOut = Field(description="What a picture may be.")
    sign_in_by_code: bool = _says("Whether `requestSignInCode` is open.", True)
    languages: list[str] = _says("Of emails and of every `detail`.", ["en", "de"])
    providers: list[ProviderOut] = Field(description="What people can sign in with beside a password, if anything.")
    support_email: Address | None = Field(description="Where people can write for help, if set.", examples=[None])


class FieldProblemOut(Schema):
    field: str = _says("As in the body; a dot leads into an object.", "username")
    code: str = _says("Stable for ever; /api/errors lists them.", "username_length")
    detail: str = _says("For the person.", "Use 3 to 30 characters for your username.")


class ChallengeOut(Schema):
    """Find the number from 0 to `max` for which the hash of the text `prefix` + number is `target`. Then send the same
    request again, with that text in `X-Proof`. It works once, from the same network."""

    algorithm: str = _says("Of the hash. If you don't know it, wait for `retry_after`.", "SHA-256")
    prefix: str = _says("What stands before the number.", "9bYq0c3mT1xpm7uQAABOIC3hE0yM5m1oKq2R8vXcW7A.")
    target: str = _says(
        "The hash, in hexadecimal digits.", "dcb5f2c2e51cbed6a0065f7166be5a8cce6afacd28f189fb2b361219d443b013"
    )
    max: int = _says("The greatest number. 150000 at most.", 20_000)
    expires_in: int = _says("Seconds until it no longer works.", 600)


class ProblemOut(Schema):
    """RFC 9457. `code` is stable for ever; `detail` is in the language asked for."""

    type: Url = _says(
        "Leads to the code's line in /api/errors.", "https://accounts.example.com/api/errors#invalid_input"
    )
    title: str = _says("The status in words.", "Unprocessable Entity")
    status: int = _says("As in the answer's head.", 422)
    code: str = _says("What is wrong. Each status of an operation lists its codes (`x-codes`).", "invalid_input")
    detail: str = _says("For the person.", "Please check the highlighted fields.")
    request_id: str = _says("As in `X-Request-Id`. Give it to support.", "4f0b3f7c8d1e4a52b6c90d7e8f1a2b3c")
    action: Action = _says("What an app should do, for codes that it does not know.", "fix_input")
    errors: list[FieldProblemOut] = Field([], description="What is wrong with each field; the first 50.")
    retry_after: int | None = Field(None, description="Seconds; with 429, 503 and `request_in_progress`.")
    ticket: str | None = Field(
        None,
        description="With `mfa_required`: for `finishSignIn`, good for 5 minutes. With `identity_unknown`: for "
        "`signUpByProvider` or `linkIdentity`, good for 10.",
    )
    suggestion: SuggestionOut | None = Field(None, description="With `identity_unknown`: for the form.")
    challenge: ChallengeOut | None = Field(None, description="With `challenge_required`.")
