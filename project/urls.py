from allauth.account.models import EmailAddress, EmailConfirmation
from allauth.account.views import logout
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from accounts.pages import account
from accounts.pages.staff import admin as _staff_admin  # noqa: F401 - registers our pages in the admin
from api import well_known
from project import health, metrics

admin.autodiscover()
for _model in (EmailAddress, EmailConfirmation, Group):  # nothing here reads them
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)
admin.site.login = account.admin_login  # type: ignore[method-assign]
admin.site.has_permission = account.may_administer  # type: ignore[method-assign]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="overview"), name="root"),
    path("account/", include("accounts.pages.urls")),
    # Django's own page would know nothing of our rule (tries, sessions, the mail to the owner).
    path("admin/password_change/", RedirectView.as_view(pattern_name="account_change_password")),
    # Signing out of the admin is signing out: the device leaves the list.
    path("admin/logout/", logout),
    path("admin/", include("accounts.pages.staff.urls")),
    path("admin/", admin.site.urls),
    path("api/", include("api.urls")),
    path(".well-known/jwks.json", well_known.jwks, name="jwks"),
    path(".well-known/apple-app-site-association", well_known.apple_app_site_association, name="apple_links"),
    path(".well-known/assetlinks.json", well_known.assetlinks, name="android_links"),
    path(".well-known/change-password", RedirectView.as_view(pattern_name="account_change_password")),
    path(".well-known/passkey-endpoints", well_known.passkey_endpoints, name="passkey_endpoints"),
    path(".well-known/security.txt", well_known.security_txt, name="security_txt"),
    path("robots.txt", well_known.robots_txt, name="robots"),
    path("favicon.ico", lambda _: redirect(static("img/icon.svg"))),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.show, name="metrics"),
]
if settings.ANYMAIL_ESP:
    from accounts.pages import hooks

    urlpatterns.append(path("hooks/mail/", hooks.view(), name="mail_hook"))
