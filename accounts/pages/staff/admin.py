"""The stock Django admin, read-only. Each action of staff on an account (staff/actions.py) asks for
confirmation. Nobody can edit a password, an address or a picture here, and no email's body is shown.

No list asks Postgres for more than an index gives: searches are prefixes, and counts end at MOST."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.forms import BaseInlineFormSet, Media
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise, cached_property
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from post_office import admin as _post_office_admin  # noqa: F401 - registers its pages, which show bodies, before ours
from post_office.models import Attachment, Email, EmailTemplate, Log

from accounts.caller import Caller
from accounts.errors import AccountError
from accounts.http import caller, log_refusal
from accounts.lib import addresses, typed
from accounts.models import ApiUse, Event, Identity, MailOwner, Session, Tombstone, User
from accounts.services.credentials import identifiers
from accounts.services.profile import pictures
from accounts.services.security import audit
from accounts.services.sessions import mfa
from accounts.services.staff import actions

for _model in (Attachment, Email, EmailTemplate, Log):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)

# A list needs the width; the start page leads everywhere.
admin.site.enable_nav_sidebar = False

MOST = 10_000  # that a list counts, and so the end of its pages
AT_ONCE = 100  # accounts that one press acts on
NEWEST = 50  # rows of a tab

# --- What every list has ------------------------------------------------------------------------------------


class Counted(Paginator):  # type: ignore[type-arg]
    @cached_property
    def count(self) -> int:
        found: QuerySet[Model] = self.object_list  # type: ignore[assignment]
        return found.order_by()[:MOST].count()


class ReadOnly:
    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission


class List(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    paginator = Counted
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()  # by what has no index either
    list_per_page = 50
    list_max_show_all = 0
    # What is only looked at needs little of the admin's JavaScript, which also puts styles into elements.
    media = Media(js=["admin/js/vendor/jquery/jquery.min.js", "admin/js/jquery.init.js", "admin/js/actions.js"])

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Only what the filters at the side ask. Django would let the URL ask for any column, so that staff could guess
        password hashes and emailed codes, letter by letter."""
        names = [getattr(one, "parameter_name", one) for one in self.list_filter]
        if lookup in {f"{name}{end}" for name in names for end in ("", "__exact", "__isnull")}:
            return "\0" not in str(value)
        dates = {f"{self.date_hierarchy}__{part}" for part in ("year", "month", "day")}
        return lookup in dates and len(str(value)) <= 4  # Django answers a longer year with a 500


def found_users(term: str) -> list[UUID]:
    """Ids of the users with this id, or whose username or address starts with the term. Two look-ups and no OR: for an
    OR Postgres may read the whole table in the order of the list."""
    try:
        return [UUID(typed.trimmed(term))]
    except ValueError:
        folded = identifiers.fold_login(term)
    named = User.objects.filter(username__startswith=folded) if "@" not in folded else User.objects.none()
    addressed = User.objects.filter(email__startswith=identifiers.fold_email(term))
    return [user_id for users in (named, addressed) for user_id in users.values_list("id", flat=True)[:MOST]]


def _both(shown: str, stored: str) -> str:
    """What people know, and what is stored and searched where that is more than lower case."""
    return shown if shown.lower() == stored else f"{shown} ({stored})"


class OfUser(List):
    """A list that is searched by the user its rows are about."""

    user_field: str
    search_fields = ("user",)  # shows the search box; found_users decides what is found
    search_help_text = _("The start of a username or email address, or a full ID.")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if search_term.strip():
            queryset = queryset.filter(**{f"{self.user_field}__in": found_users(search_term)})
        return queryset, False


class Newest(BaseInlineFormSet):  # type: ignore[type-arg]
    @cached_property
    def _rows(self) -> list[Model]:
        return list(super().get_queryset()[:NEWEST])

    def get_queryset(self) -> list[Model]:  # type: ignore[override]
        return self._rows


class Tab(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """The newest rows about a user, on the user's page."""

    formset = Newest
    anchor: str  # its heading's
    ordering = ("-pk",)
    extra = 0
    show_change_link = True
    media = Media()


# --- What staff do ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deed:
    rule: Callable[..., None]
    title: Promise
    question: Promise  # on the page that asks once more
    fits: Callable[[User], bool] = lambda _user: True

    @property
    def name(self) -> str:
        return self.rule.__name__


DEEDS = {
    deed.name: deed
    for deed in (
        Deed(
            actions.disable,
            _("Switch off"),
            _("All devices are signed out, and nobody can sign in to these accounts until they're switched on again:"),
            lambda user: user.is_active,
        ),
        Deed(
            actions.enable,
            _("Switch on again"),
            _("The owners of these accounts can sign in again:"),
            lambda user: not user.is_active,
        ),
        Deed(
            actions.revoke_password,
            _("Force a new password"),
            _("The password stops working, all devices are signed out, and we email a link to choose a new one:"),
        ),
        Deed(
            actions.end_sessions,
            _("Sign out everywhere"),
            _("All devices of these accounts are signed out. Their passwords don't change:"),
        ),
        Deed(
            actions.resend_confirmation,
            _("Resend the confirmation email"),
            _("Accounts with an unconfirmed address get a new email. Older codes and links stop working:"),
            lambda user: bool(user.email) and not user.email_verified,
        ),
        Deed(
            actions.remove_second_factors,
            _("Remove second factors"),
            _("Removes passkeys and two-step verification, and emails the owners. Be sure that you know who's asking:"),
            lambda user: mfa.is_on(user) or user.passkeys.exists(),
        ),
        Deed(
            actions.disconnect_identities,
            _("Disconnect sign-in providers"),
            _("Devices that signed in by a provider are signed out, and we email the owners:"),
            lambda user: user.identities.exists(),
        ),
        Deed(
            actions.call_off_deletion,
            _("Cancel the deletion"),
            _("The accounts are kept, and we email their owners:"),
            lambda user: user.deletes_at is not None,
        ),
    )
}


class DeletionPlanned(admin.SimpleListFilter):
    title = _("deletion")
    parameter_name = "deletion"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("planned", _("Planned"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        return queryset.filter(deletes_at__isnull=False) if self.value() == "planned" else queryset


# Words of RFC 8176.
METHODS = {"pwd": _("password"), "otp": _("code"), "swk": _("passkey"), "hwk": _("passkey"), "fed": _("provider")}


@admin.display(description=_("event"))
def what(event: Event) -> str:
    return str(audit.WORDS[audit.Kind(event.kind)])


class DeviceTab(Tab):
    model = Session
    anchor = "sessions"
    fields = ("kind", "name", "ip", "signed_in_with", "created_at", "last_used_at", "expires_at", "ended_at")
    readonly_fields = ("signed_in_with",)

    @admin.display(description=_("signed in with"))
    def signed_in_with(self, row: Session) -> str:
        return ", ".join(str(METHODS[method]) for method in row.methods if method in METHODS)


class IdentityTab(Tab):
    model = Identity
    template = "admin/edit_inline/stacked.html"  # it has no link, so a wide table could not be scrolled by keyboard
    anchor = "identities"
    fields = ("provider", "email", "issuer", "subject", "created_at", "last_used_at")
    show_change_link = False


class EventTab(Tab):
    model = Event
    anchor = "events"
    fields = ("created_at", "what", "ip", "device", "data")
    readonly_fields = ("what",)
    what = staticmethod(what)


class MailTab(Tab):
    """Metadata only: until it is sent, a body holds a code and a link."""

    model = MailOwner
    anchor = "mails"
    fields = readonly_fields = ("created", "to", "subject", "status", "tries", "delivery")

    def get_queryset(self, request: HttpRequest) -> QuerySet[MailOwner]:
        rows: QuerySet[MailOwner] = super().get_queryset(request)
        return rows.select_related("mail").defer("mail__message", "mail__html_message", "mail__headers")

    @admin.display(description=_("created"))
    def created(self, row: MailOwner) -> Any:
        return row.mail.created

    @admin.display(description=_("to"))
    def to(self, row: MailOwner) -> str:
        return ", ".join(_both(addresses.shown(address), address) for address in row.mail.to)

    @admin.display(description=_("subject"))
    def subject(self, row: MailOwner) -> str:
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:post_office_email_change", args=[row.mail_id]), row.mail.subject
        )

    @admin.display(description=_("state"))
    def status(self, row: MailOwner) -> str:
        return str(row.mail.get_status_display())

    @admin.display(description=_("tries"))
    def tries(self, row: MailOwner) -> int:
        return row.mail.number_of_retries or 0

    @admin.display(description=_("delivery"))
    def delivery(self, row: MailOwner) -> str:
        return str(row.mail.get_recipient_delivery_status_display() or "-")


@admin.register(User)
class UserAdmin(OfUser):
    user_field = "id"
    list_display = ("shown_username", "shown_email", "email_verified", "is_active", "is_staff", "created_at")
    list_filter = ("is_active", "is_staff", "email_verified", "gender", DeletionPlanned)
    ordering = ("-id",)
    inlines = (DeviceTab, IdentityTab, EventTab, MailTab)
    change_form_template = "admin/accounts/user/change_form.html"
    fieldsets = (
        (
            _("Account"),
            {"fields": ("id", "shown_username", "shown_email", "email_verified", "is_active", "deletes_at")},
        ),
        (_("Profile"), {"fields": ("first_name", "last_name", "gender", "language")}),
        (_("Picture"), {"fields": ("shown_picture",)}),
        (_("Rights"), {"fields": ("is_staff", "is_superuser")}),
        (_("Times"), {"fields": ("created_at", "updated_at", "last_login")}),
    )
    readonly_fields = ("shown_username", "shown_email", "shown_picture")

    @admin.display(description=_("username"))
    def shown_username(self, user: User) -> str:
        return _both(user.username_display, user.username)

    @admin.display(description=_("email address"))
    def shown_email(self, user: User) -> str:
        return _both(user.email_display, user.email)

    @admin.display(description=_("picture"))
    def shown_picture(self, user: User) -> str:
        address = pictures.addresses(user).get(256)
        picture = '<img class="picture" src="{}" alt="" width="128" height="128">'
        return format_html(picture, address) if address else "-"

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """All of them or, without the right, none."""
        if not request.user.has_perm(actions.RIGHT):
            return {}
        return {name: (partial(UserAdmin.do, deed=deed), name, str(deed.title)) for name, deed in DEEDS.items()}

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        user: User | None = self.get_object(request, object_id)
        assert isinstance(request.user, User)
        deeds = [deed for deed in DEEDS.values() if user and deed.fits(user) and actions.may_act(request.user, user)]
        tabs = {
            **{f"#fieldset-0-{number}-heading": name for number, (name, _options) in enumerate(self.fieldsets)},
            **{f"#{tab.anchor}-heading": tab.model._meta.verbose_name_plural for tab in self.inlines},  # noqa: SLF001 - a documented API of Django's
        }
        return super().change_view(request, object_id, form_url, {"deeds": deeds, "tabs": tabs})

    def do(self, request: HttpRequest, queryset: QuerySet[User], *, deed: Deed) -> HttpResponse | None:
        chosen = list(queryset.order_by("username")[: AT_ONCE + 1])
        if len(chosen) > AT_ONCE:
            self.message_user(request, _("Choose up to %(n)d accounts.") % {"n": AT_ONCE}, messages.ERROR)
            return None
        if "confirmed" not in request.POST:
            context = {
                **self.admin_site.each_context(request),
                "title": deed.title, "deed": deed, "users": chosen, "opts": self.opts, "checkbox": ACTION_CHECKBOX_NAME,
            }  # fmt: skip
            return TemplateResponse(request, "admin/accounts/user/confirm.html", context)
        done = [user for user in chosen if self._obeyed(deed, request, user, caller(request))]
        if done:
            words = ngettext("%(deed)s: done for %(n)d account.", "%(deed)s: done for %(n)d accounts.", len(done))
            self.message_user(request, words % {"deed": deed.title, "n": len(done)}, messages.SUCCESS)
        return redirect("admin:accounts_user_change", chosen[0].id) if len(chosen) == 1 else None

    def _obeyed(self, deed: Deed, request: HttpRequest, user: User, where: Caller) -> bool:
        try:
            deed.rule(staff=request.user, user=user, caller=where)
        except AccountError as error:
            log_refusal(request, error)
            self.message_user(request, f"{error.message} ({user.username})", messages.ERROR)
            return False
        return True


# --- The other lists ----------------------------------------------------------------------------------------


@admin.register(Session)
class SessionAdmin(OfUser):
    user_field = "user"
    list_display = ("user", "kind", "name", "ip", "last_used_at", "ended_at")
    list_select_related = ("user",)
    fields = ("id", "user", "kind", "name", "platform", "app_version", "ip", "created_at", "last_used_at", "ended_at")
    ordering = ("-id",)


@admin.register(Event)
class EventAdmin(OfUser):
    user_field = "user"
    list_display = ("created_at", what, "user", "ip", "device")
    list_select_related = ("user",)
    fields = ("created_at", "what", "kind", "user", "ip", "device", "data")
    readonly_fields = ("what",)
    what = staticmethod(what)
    ordering = ("-id",)


@admin.register(ApiUse)
class ApiUseAdmin(List):
    list_display = ("day", "version", "app_version", "calls")
    list_filter = ("version",)
    fields = list_display
    ordering = ("-day", "version", "-calls")


@admin.register(Tombstone)
class TombstoneAdmin(List):
    list_display = ("id", "erased_on")
    date_hierarchy = "erased_on"
    ordering = ("-erased_on",)


@admin.register(Email)
class MailAdmin(OfUser):
    """Metadata only: until it is sent, a body holds a code and a link."""

    user_field = "owner__user"
    list_display = ("id", "to", "subject", "status", "created", "number_of_retries")
    list_filter = ("status",)
    change_form_template = "admin/change_form.html"  # post_office's own has a button that sends again
    fields = (
        "id", "to", "subject", "status", "priority", "created", "scheduled_time", "expires_at", "number_of_retries",
        "recipient_delivery_status",
    )  # fmt: skip
    ordering = ("-id",)
