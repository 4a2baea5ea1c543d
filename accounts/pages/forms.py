"""The browser's forms. They say what is asked and how it looks; whether an answer is right, the rules decide
(`RuleFormMixin` in refusals.py puts a refusal beside its field)."""

from typing import Any

from allauth.account import forms as allauth_forms
from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.text import format_lazy
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts.errors import AccountError, InvalidPasskey, SetupExpired
from accounts.http import AuthenticatedRequest, caller
from accounts.lib import addresses, strict_json, time_zones
from accounts.models import Gender, User
from accounts.pages.refusals import prover
from accounts.services.account import password_resets, passwords, signup
from accounts.services.credentials.identifiers import EMAIL_MAX_LENGTH
from accounts.services.profile import pictures
from accounts.services.security import rate_limits

PASSWORD_HELP = format_lazy(
    _("At least {n} characters. Three random words are easy to remember and hard to guess."),
    n=settings.PASSWORD_MIN_LENGTH,
)
PICTURE_HELP = format_lazy(_("JPEG, PNG, WebP, HEIC or AVIF, up to {mb} MB."), mb=settings.PICTURE_MAX_BYTES // 2**20)


class Field(forms.CharField):
    """A page shows no length, because the rules name theirs: `max_length` only keeps absurd input out."""

    def __init__(self, *, label: Any, **options: Any) -> None:
        # Names the field, so that the summary of a page never says the same sentence twice.
        required = format_lazy(_("{field} is required."), field=label)
        super().__init__(label=label, error_messages={"required": required}, **options)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        return {}


class Text(Field):
    """One line. What has no other name is an attribute of its element."""

    def __init__(self, *, label: Any, help_text: Any = "", required: bool = True, **attrs: Any) -> None:
        widget = forms.TextInput(attrs=attrs)
        super().__init__(label=label, help_text=help_text, required=required, max_length=1000, widget=widget)


class ExactText(Text):
    """Nothing that a keyboard should capitalise or correct."""

    def __init__(self, **options: Any) -> None:
        super().__init__(autocapitalize="none", spellcheck="false", **options)


class Email(Field):
    def __init__(self, *, label: Any = None) -> None:
        widget = forms.EmailInput(attrs={"autocomplete": "email", "spellcheck": "false"})
        super().__init__(label=label or _("Email"), max_length=EMAIL_MAX_LENGTH * 4, widget=widget)

    def prepare_value(self, value: Any) -> Any:
        """Browsers send the domain in ASCII, whatever was typed."""
        return addresses.shown(value) if isinstance(value, str) else value


class Password(Field):
    def __init__(self, *, label: Any = None, new: bool = False, help_text: Any = "") -> None:
        attrs: dict[str, Any] = {"autocomplete": "new-password" if new else "current-password"}
        if new:
            attrs["data-least"] = settings.PASSWORD_MIN_LENGTH  # for the hint while it is typed, see account.js
            help_text = PASSWORD_HELP
        widget = forms.PasswordInput(attrs=attrs)
        label = label or _("Password")
        super().__init__(label=label, strip=False, max_length=4096, help_text=help_text, widget=widget)


class Code(Field):
    def __init__(self, *, digits: int = 8, alone: bool = False) -> None:
        """`alone` on its page: it has the focus, and a browser with JavaScript sends it with the last digit."""
        attrs: dict[str, Any] = {"autocomplete": "one-time-code", "inputmode": "numeric", "spellcheck": "false"}
        attrs |= {"class": "code", **({"autofocus": True, "data-digits": digits} if alone else {})}
        help_text = format_lazy(_("{n} digits"), n=digits)
        super().__init__(label=_("Code"), help_text=help_text, max_length=100, widget=forms.TextInput(attrs=attrs))


class Picture(forms.FileField):
    def __init__(self) -> None:
        widget = forms.FileInput(attrs={"class": "file", "accept": ",".join(pictures.max_pixels())})
        super().__init__(label=_("Picture"), required=False, help_text=PICTURE_HELP, widget=widget)


class TimeZone(forms.CharField):
    """A list of cities. A browser with JavaScript fills in its own zone where none is chosen."""

    def __init__(self) -> None:
        cities = [
            (time_zones.REGIONS[region], [(name, _city(name)) for name in names])
            for region, names in time_zones.cities().items()
        ]
        none = format_lazy(_("Default ({zone})"), zone=settings.TIME_ZONE)
        widget = forms.Select(choices=[("", none), *cities], attrs={"data-own-zone": True})
        super().__init__(label=_("Time zone"), required=False, max_length=100, widget=widget)


def _city(name: str) -> str:
    return name.partition("/")[2].replace("_", " ").replace("/", ", ")


class LoginForm(allauth_forms.LoginForm):
    field_order = ["login", "password", "remember"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        label = _("Username or email")
        self.fields["login"] = ExactText(label=label, autocomplete="username webauthn", autofocus=True)
        self.fields["password"] = Password()
        self.fields["remember"].label = _("Keep me signed in")
        self.order_fields(self.field_order)


class RequestSignInCodeForm(forms.Form):
    login = ExactText(label=_("Username or email"), autocomplete="username", autofocus=True)


class SignUpForm(forms.Form):
    by_passkey = False  # read by allauth's view

    username = ExactText(label=_("Username"), autocomplete="username", autofocus=True)
    email = Email()
    password = Password(new=True)
    picture = Picture()
    first_name = Text(label=_("First name"), autocomplete="given-name", required=False)
    last_name = Text(label=_("Last name"), autocomplete="family-name", required=False)
    gender = forms.TypedChoiceField(
        label=_("Gender"),
        choices=Gender.choices,
        initial=Gender.UNSPECIFIED,
        empty_value=Gender.UNSPECIFIED,
        required=False,
        widget=forms.RadioSelect,
    )
    # What the browser says of itself, see account.js.
    time_zone = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput(attrs={"data-own-zone": True}))

    def try_save(self, request: HttpRequest) -> tuple[User | None, HttpResponseBase | None]:
        """allauth's view signs the user in, unless there is an answer already (the address must be proved first)."""
        user = signup.sign_up(caller=prover(request), **self.cleaned_data)
        if settings.EMAIL_VERIFICATION == "mandatory":
            request.session["confirming"] = user.email
            return None, HttpResponseRedirect(reverse("email_confirm"))
        return user, None


class ForgotPasswordForm(forms.Form):
    # allauth's view reads cleaned_data["email"]; a username does as well.
    email = ExactText(label=_("Username or email"), autocomplete="username", autofocus=True)

    def save(self, request: HttpRequest, **_: Any) -> str:
        login: str = self.cleaned_data["email"]
        password_resets.request_reset(login=login, caller=prover(request))
        request.session["resetting"] = login
        return login


class ResetKeyForm(forms.Form):
    """allauth's view passes the two parts of a link's key. Checking them changes nothing."""

    uidb36 = forms.CharField()
    key = forms.CharField()
    reset_user: User | None = None

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        try:
            self.reset_user = password_resets.match_reset_key(f"{data.get('uidb36')}-{data.get('key')}").user
        except AccountError as error:
            raise forms.ValidationError(str(error.message), code=error.code) from None
        return data


class NewPasswordForm(forms.Form):
    new_password = Password(label=_("New password"), new=True)

    def __init__(self, *args: Any, user: User | None = None, temp_key: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user, self.temp_key = user, temp_key


class ResetCodeForm(forms.Form):
    """On the page "Check your email": code and new password together, so that no session stays half-verified."""

    code = Code()
    new_password = Password(label=_("New password"), new=True)


class ChangePasswordForm(forms.Form):
    current_password = Password(label=_("Current password"))
    new_password = Password(label=_("New password"), new=True)

    def __init__(self, *args: Any, user: User, request: AuthenticatedRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user, self.request = user, request

    def save(self) -> None:
        session = self.request.user_session
        passwords.change(user=self.user, keep=session.id, caller=caller(self.request), **self.cleaned_data)


class ConfirmCodeForm(forms.Form):
    code = Code(alone=True)


class MfaForm(forms.Form):
    code = Code(digits=6, alone=True)


class RecoveryCodeForm(forms.Form):
    code = ExactText(label=_("Recovery code"), autocomplete="off", autofocus=True, help_text=_("12 letters and digits"))


class State(forms.CharField):
    """What the page was given by a rule."""

    def __init__(self) -> None:
        super().__init__(max_length=4096, widget=forms.HiddenInput, error_messages={"required": SetupExpired.message})


class TurnOnForm(forms.Form):
    state = State()
    code = Code(digits=6)


class Credential(forms.CharField):
    """One JSON object. (Django's JSONField meets JSON that is too deep, and numbers that are too long, with a 500.)"""

    def __init__(self) -> None:
        super().__init__(max_length=16_384, widget=forms.HiddenInput)

    def clean(self, value: Any) -> Any:
        try:
            found = strict_json.loads(super().clean(value))
        except (forms.ValidationError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise forms.ValidationError(str(InvalidPasskey.message), code=InvalidPasskey.code)
        return found


class PasskeyForm(forms.Form):
    """Filled in by the script, with what the device answered."""

    state = State()
    credential = Credential()


class AddPasskeyForm(PasskeyForm):
    field_order = ["name", "state", "credential"]
    name = Text(label=_("Name"), required=False, help_text=_("A name you'll recognise, such as “My phone”."))


class PasskeyNameForm(forms.Form):
    name = Text(label=_("Name"))


class ChangeEmailForm(forms.Form):
    email = Email(label=_("New email"))
    password = Password(label=_("Your password"))

    def __init__(self, *args: Any, needs_password: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not needs_password:
            del self.fields["password"]


class DeleteAccountForm(forms.Form):
    password = Password(
        label=_("Your password"), help_text=_("If you don't have one, sign in again and come back within 10 minutes.")
    )

    def __init__(self, *args: Any, needs_password: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not needs_password:
            del self.fields["password"]


class ProfileForm(forms.Form):
    picture = Picture()
    remove_picture = forms.BooleanField(label=_("Remove picture"), required=False)
    first_name = Text(label=_("First name"), autocomplete="given-name", required=False)
    last_name = Text(label=_("Last name"), autocomplete="family-name", required=False)
    username = ExactText(label=_("Username"), autocomplete="username")
    gender = forms.ChoiceField(
        label=_("Gender"),
        choices=Gender.choices,
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose female, male or unspecified.")},
    )
    language = forms.CharField(
        label=_("Language"), required=False, max_length=100, widget=forms.Select(choices=settings.LANGUAGES)
    )
    time_zone = TimeZone()

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in ("first_name", "last_name", "gender", "time_zone"):
            self.initial[field] = getattr(user, field)
        self.initial["username"] = user.username_display
        self.initial["language"] = user.language or get_language()
        limit = rate_limits.limits()["username_change_per_account"]
        words = (
            _("You can sign in with it. You can change it twice every {days} days.")
            if limit.amount == 2
            else _("You can sign in with it. Changes allowed every {days} days: {n}.")
        )
        self.fields["username"].help_text = format_lazy(words, days=max(1, limit.seconds // 86400), n=limit.amount)
        widget, chosen = self.fields["time_zone"].widget, user.time_zone
        if chosen and not any(chosen == name for _region, names in widget.choices[1:] for name, _city in names):
            widget.choices = [*widget.choices, (chosen, chosen)]
