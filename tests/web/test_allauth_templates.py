"""Every page that the installed allauth has, whether we mount it or not, comes out in our layout: an upgrade that adds
one, or that leaves our elements aside, is seen here."""

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import allauth
import pytest
from django import forms
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.urls import NoReverseMatch, URLPattern, URLResolver, clear_url_caches, include, path, re_path, reverse
from django.utils.timezone import now
from pytest_django import Settings

from accounts.models import Session, User, uuid7
from tests.web.conftest import sound

FOLDER = Path(allauth.__file__).parent / "templates"
# Parts of pages, mails, and the layouts themselves.
PARTS = {"email", "messages", "snippets", "elements", "layouts"}
# Of providers and identity provision, which are no part of this service, and want tags of apps that are not installed.
FOREIGN = {"socialaccount", "openid", "idp"}
PAGES = sorted(
    str(file.relative_to(FOLDER))
    for file in FOLDER.rglob("*.html")
    if not file.name.startswith("base") and not (PARTS | FOREIGN) & set(file.relative_to(FOLDER).parts)
)
# On two pages that are not mounted stands an empty form with a style that the policy leaves out, and that does nothing.
INERT = '<form style="display: none"'
BUTTON = re.compile(r"""<(?:button\b[^>]*|input\b[^>]*type=["'](?:submit|button)["'][^>]*)>""")
OUR_BUTTON = re.compile(r'class="(?:[\w-]+ )*(?:button|language|reveal)\b')


def test_the_list_is_of_pages_and_has_those_that_are_known() -> None:
    assert {"account/login.html", "account/password_set.html", "mfa/totp/activate_form.html"} <= set(PAGES)
    assert "usersessions/usersession_list.html" in PAGES
    assert len(PAGES) >= 35


class AnyForm(forms.Form):
    """One field of each kind that allauth's forms have, sent with mistakes."""

    login = forms.CharField(help_text="Some help.")
    email = forms.EmailField()
    password = forms.CharField(widget=forms.PasswordInput)
    remember = forms.BooleanField(required=False)
    choice = forms.ChoiceField(choices=[("a", "A"), ("b", "B")], widget=forms.RadioSelect)
    pick = forms.ChoiceField(choices=[("a", "A"), ("b", "B")])
    hidden = forms.CharField(widget=forms.HiddenInput, required=False)
    secret = "JBSWY3DPEHPK3PXP"


@pytest.fixture
def _every_name_leads_somewhere(settings: Settings) -> Iterator[None]:
    """Addresses for the names in templates whose apps are not mounted."""
    used = {
        (name, frozenset(re.findall(r"(\w+)=", rest)), bool(rest.strip()))
        for file in FOLDER.rglob("*.html")
        for name, rest in re.findall(r"""{%\s*url\s+["']([\w:]+)["']([^%]*?)(?:as \w+)?%}""", file.read_text())
    }

    def nowhere(request: HttpRequest, **_: object) -> HttpResponse:
        return HttpResponse()

    routes: list[URLPattern | URLResolver] = [path("", include("project.urls"))]
    for name, names, positional in used:
        try:
            reverse(name)
        except NoReverseMatch:
            groups = "/".join(f"(?P<{group}>.*)" for group in sorted(names)) or ("(.*)" if positional else "")
            routes.append(re_path(rf"^nowhere/{name}/{groups}$", nowhere, name=name))
    module = types.ModuleType("tests.every_name")
    module.urlpatterns = routes  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    settings.ROOT_URLCONF = module.__name__
    clear_url_caches()
    yield
    del sys.modules[module.__name__]
    clear_url_caches()


def context(request: HttpRequest, user: Any, form: forms.Form) -> dict[str, Any]:
    key = {
        "id": 7,
        "pk": 7,
        "wrap": lambda: {"name": "A key"},
        "type": "webauthn",
        "created_at": now(),
        "last_used_at": None,
    }
    return {
        "request": request, "user": user, "form": form, "email": "ada@example.com", "code": "4829",
        "emailaddresses": [{"id": 7, "email": "ada@example.com", "verified": True, "primary": True}],
        "emailaddress_radios": [{"id": "e", "checked": True, "emailaddress": {"email": "ada@example.com"}}],
        "new_emailaddress": {"email": "new@example.com"}, "trust_from": now(),
        "sessions": [Session(id=uuid7(), ip="192.0.2.1", name="Firefox", last_used_at=now())],
        "authenticators": [key], "authenticator": key, "object": key, "totp_url": "otpauth://x",
        "totp_svg_data_uri": "data:image/svg+xml;base64,PA==", "unused_codes": ["12345678"], "total_count": 10,
        "can_resend": True, "cancel_url": "/", "verify_form": form, "reauthentication_alternatives": [],
        "js_data": {}, "redirect_field_name": "next", "redirect_field_value": "/", "MFA_SUPPORTED_TYPES": ["totp"],
        "is_mfa_enabled": True, "mfa": True, "site_name": "Crew",
    }  # fmt: skip


def wrong_with(template: str, html: str) -> list[str]:
    if template in {"account/phone_change.html", "account/email_change.html"}:
        html = html.replace(INERT, "<form")
    wrong = []
    try:
        sound(HttpResponse(html))
    except AssertionError as error:
        wrong.append(str(error))
    if 'href="/static/css/account.css"' not in html:
        wrong.append("our style")
    if not re.search(r'<main id="main"', html) or not re.search(r'class="(?:frame|card entrance-card)"', html):
        wrong.append("our frame")
    wrong += [found for found in BUTTON.findall(html) if not OUR_BUTTON.search(found)]
    for field in re.findall(r"<(?:input|select|textarea)\b[^>]*>", html):
        if 'type="hidden"' not in field and (found := re.search(r'\bid="([^"]+)"', field)):
            within = re.search(r"<label[^>]*>\s*" + re.escape(field), html)
            if not within and f'for="{found[1]}"' not in html and "aria-label" not in field:
                wrong.append(field)
    return wrong


@pytest.mark.usefixtures("_every_name_leads_somewhere")
def test_each_page_of_allauth_is_in_our_layout(alice: User) -> None:
    request, offenders = RequestFactory().get("/account/"), {}
    for template in PAGES:
        for form in (AnyForm(), AnyForm({"email": "no"})):
            for user in (alice, AnonymousUser()):
                request.user = user
                html = render_to_string(template, context(request, user, form), request=request)
                if wrong := wrong_with(template, html):
                    offenders[template, form.is_bound, user] = wrong
    assert offenders == {}
