"""The stock Django admin: looking, and switching accounts off and on by the rule that does it. Nobody edits a
password, an address or a picture here, and no mail's body is shown."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from post_office import admin as _post_office_admin  # noqa: F401 - registers its pages, which show bodies, before ours
from post_office.models import Attachment, Email, EmailTemplate, Log

from accounts.http import origin
from accounts.models import ApiUse, Event, Session, Tombstone, User
from accounts.services import users

for _model in (Attachment, Email, EmailTemplate, Log):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(ReadOnly):
    list_display = ("username", "email", "email_verified", "is_active", "is_staff", "created_at")
    list_filter = ("is_active", "is_staff", "email_verified", "gender")
    search_fields = ("=username", "=email", "=id")
    ordering = ("-id",)
    show_full_result_count = False
    fields = (
        "id", "username", "email", "email_verified", "first_name", "last_name", "gender", "language", "is_active",
        "is_staff", "is_superuser", "created_at", "updated_at", "last_login", "deletes_at",
    )  # fmt: skip
    readonly_fields = tuple(name for name in fields if name != "is_active")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if "is_active" in form.changed_data:
            users.set_active(user=obj, active=obj.is_active, origin=origin(request))


@admin.register(Session)
class SessionAdmin(ReadOnly):
    list_display = ("user", "kind", "name", "ip", "last_used_at", "ended_at")
    list_select_related = ("user",)
    search_fields = ("=user__username", "=id")
    fields = ("id", "user", "kind", "name", "platform", "app_version", "ip", "created_at", "last_used_at", "ended_at")
    show_full_result_count = False


@admin.register(Event)
class EventAdmin(ReadOnly):
    list_display = ("created_at", "kind", "user", "ip", "device")
    list_select_related = ("user",)
    search_fields = ("=user__username",)
    fields = ("created_at", "kind", "user", "ip", "device", "data")
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(ApiUse)
class ApiUseAdmin(ReadOnly):
    list_display = ("day", "version", "app_version", "calls")
    list_filter = ("version",)
    fields = list_display
    ordering = ("-day", "version", "-calls")
    show_full_result_count = False


@admin.register(Tombstone)
class TombstoneAdmin(ReadOnly):
    list_display = ("id", "erased_on")
    date_hierarchy = "erased_on"
    ordering = ("-erased_on",)


@admin.register(Email)
class MailAdmin(ReadOnly):
    """Metadata only: until it is sent, a body holds a code and a link."""

    list_display = ("id", "to", "subject", "status", "created", "number_of_retries")
    list_filter = ("status",)
    change_form_template = "admin/change_form.html"  # post_office's own has a button that sends again
    fields = (
        "id",
        "to",
        "subject",
        "status",
        "priority",
        "created",
        "scheduled_time",
        "expires_at",
        "number_of_retries",
        "recipient_delivery_status",
    )
    ordering = ("-id",)
    show_full_result_count = False
