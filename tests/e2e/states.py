"""Every page in every state that a person may meet, in one table: what takes pictures (shots.py) and what checks
(test_states.py) walk through the same. A new page is a line here."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, Response, Route, ViewportSize

from tests.conftest import PASSWORD
from tests.e2e.chromium import sign_in
from tests.e2e.conftest import Service, eventually
from tests.factors import App, Device

Act = Callable[[Page], object]
DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
_AT_ONCE = """() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("*, ::before, ::after { transition: none !important; animation: none !important; }");
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}"""
WORDS = {"site_name": "Crew", "languages": settings.LANGUAGES, "mb": 10, "retry_after": 30}
# What it is called when nobody has taken its head off.
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
NOBODYS = f"{'0' * 32}-{'x' * 43}"  # a key that was never given out


@dataclass(frozen=True)
class State:
    """`who` has opened `path`, and then done what `act` does. `template` is a page that no visit can call forth."""

    name: str
    path: str = ""
    who: str = "visitor"
    act: Act | None = None
    template: str = ""
    language: str = "en"
    by_others: bool = False  # Django's and Swagger's own pages, whose HTML is not ours


# --- What brings a page into its state ----------------------------------------------------------------------


def send(page: Page) -> None:
    """The first form of the page, as it is."""
    with page.expect_navigation():
        page.locator("main form[method=post]").first.evaluate("form => form.submit()")


def fill(**values: str) -> Act:
    """Type into fields, by their names, and send the form."""

    def act(page: Page) -> None:
        for name, value in values.items():
            page.locator(f"main [name={name}]").fill(value)
        with page.expect_navigation():
            page.locator("main form[method=post] :is(button.primary, button.danger)").first.click()

    return act


def then(*acts: Act) -> Act:
    def act(page: Page) -> None:
        for one in acts:
            one(page)

    return act


def go(path: str) -> Act:
    return lambda page: page.goto(path)


def choose_at_admin(deed: str) -> Act:
    def act(page: Page) -> None:
        with page.expect_navigation():
            page.locator(f".deeds button[value={deed}]").click()

    return act


def press(name: str) -> Act:
    def act(page: Page) -> None:
        with page.expect_navigation():
            page.locator(f"main button[name={name}]").click()

    return act


def click(selector: str) -> Act:
    return lambda page: page.locator(selector).first.click()


def challenged(cast: "Cast", act: Act) -> Act:
    """`act` from a busy network. The page's script runs, but its worker is an empty one, so the page stays."""

    def act_there(page: Page) -> None:
        scripts = iter(("page", "worker"))

        def answer(route: Route) -> None:
            if next(scripts) == "page":
                route.continue_()
            else:
                route.fulfill(body="", content_type="text/javascript")

        page.route("**/proof*.js", answer, times=2)
        with cast.service.busy_network():
            act(page)
            page.locator("progress").wait_for()

    return act_there


def without_cookies(page: Page) -> None:
    """The page stays open, and the browser forgets."""
    page.context.clear_cookies()
    send(page)


# --- The table ----------------------------------------------------------------------------------------------


def table(cast: "Cast") -> Iterator[State]:
    yield from entrance(cast)
    yield from account(cast)
    yield from failures()
    yield from other_languages(cast)
    yield from admin(cast)


def entrance(cast: "Cast") -> Iterator[State]:
    forgot = fill(email="mira")
    yield State("sign in", "/account/login/")
    yield State("sign in, nothing typed", "/account/login/", act=send)
    yield State("sign in, wrong password", "/account/login/", act=fill(login="mira", password="no"))
    yield State("sign in, throttled", "/account/login/", act=fill(login="tess", password="no"))
    yield State("sign in, password shown", "/account/login/", act=click(".reveal"))
    yield State("sign up", "/account/signup/")
    yield State(
        "sign up, mistakes", "/account/signup/", act=fill(username="m", email="x", password="short", first_name="<")
    )
    yield State("sign up, name taken", "/account/signup/",
                act=fill(username="mira", email="new@example.com", password=PASSWORD))  # fmt: skip
    new = fill(username="newcomer", email="newcomer@example.com", password=PASSWORD)
    yield State("sign up, busy network", "/account/signup/", act=challenged(cast, new))
    yield State("sign up, busy network, code first", "/account/signup/",
                act=then(challenged(cast, new), press("by_code")))  # fmt: skip
    yield State("forgot password, busy network", "/account/password/reset/", act=challenged(cast, forgot))
    yield State("code by mail", "/account/login/code/")
    yield State("code by mail, nothing typed", "/account/login/code/", act=send)
    yield State("code by mail, check your mail", "/account/login/code/", act=fill(login="mira"))
    yield State("code by mail, wrong code", "/account/login/code/", act=then(fill(login="mira"), fill(code="00000000")))
    yield State("forgot password", "/account/password/reset/")
    yield State("forgot password, nothing typed", "/account/password/reset/", act=send)
    yield State("forgot password, check your mail", "/account/password/reset/", act=forgot)
    yield State("forgot password, wrong code", "/account/password/reset/",
                act=then(forgot, fill(code="00000000", new_password=PASSWORD)))  # fmt: skip
    yield State("new password, in another browser", f"/account/password/reset/key/{'0' * 32}-set-password/")
    yield State("new password, by the link", cast.links["reset"])
    yield State("new password, too short", cast.links["reset"], act=fill(new_password="short"))
    yield State("new password, old link", f"/account/password/reset/key/{NOBODYS}/")
    yield State("new password, done", "/account/password/reset/key/done/")
    yield State("confirm by the link", cast.links["confirm"])
    yield State("confirm, old link", f"/account/confirm-email/{NOBODYS}/")
    yield State("take a change of address back", cast.links["undo"])
    yield State("take a change of address back, old link", f"/account/email/undo/{NOBODYS}/")
    yield State("keep the account, by the link", cast.links["keep"])
    yield State("keep the account, old link", f"/account/delete/undo/{NOBODYS}/")
    second = fill(login="vera", password=PASSWORD)
    yield State("second step", "/account/login/", act=second)
    yield State("second step, wrong code", "/account/login/", act=then(second, fill(code="000000")))
    yield State("second step, recovery code", "/account/login/", act=then(second, click('a[href*="recovery"]')))
    yield State("second step, wrong recovery code", "/account/login/",
                act=then(second, click('a[href*="recovery"]'), fill(code="aaaa-bbbb-cccc")))  # fmt: skip
    yield State("switched off", "/account/inactive/")
    yield State("errors of the API", "/api/errors")


def account(cast: "Cast") -> Iterator[State]:
    yield State("overview", "/account/", "mira")
    yield State("overview, address not confirmed", "/account/", "nils")
    yield State("overview, deletion planned", "/account/", "lea")
    yield State("profile", "/account/profile/", "mira")
    yield State("profile, new account", "/account/profile/", "nils")
    yield State("profile, mistakes", "/account/profile/", "mira", fill(username="x", first_name="<"))
    yield State("email", "/account/email/", "mira")
    yield State("email, not confirmed", "/account/email/", "nils")
    yield State("email, another one waits", "/account/email/", "omar")
    yield State("email, mistakes", "/account/email/", "mira", fill(email="no", password="no"))
    yield State("confirm by code", "/account/confirm-email/", "nils")
    yield State("confirm by code, wrong code", "/account/confirm-email/", "nils", fill(code="00000000"))
    yield State("confirm, signed in, old link", f"/account/confirm-email/{NOBODYS}/", "nils")
    yield State("password", "/account/password/change/", "mira")
    yield State(
        "password, mistakes", "/account/password/change/", "mira", fill(current_password="no", new_password="short")
    )
    yield State("two-step and passkeys, none", "/account/two-step/", "mira")
    yield State("two-step and passkeys, not confirmed", "/account/two-step/", "nils")
    yield State("two-step and passkeys, both", "/account/two-step/", "vera")
    yield State("overview, second factors", "/account/", "vera")
    yield State("two-step, turn on", "/account/two-step/on/", "mira")
    yield State("two-step, wrong code", "/account/two-step/on/", "mira", fill(code="000000"))
    yield State("two-step, turn off", "/account/two-step/off/", "vera")
    yield State("two-step, recovery codes", "/account/two-step/", "vera", click('form[action*="recovery"] button'))
    yield State("passkey, add", "/account/two-step/passkeys/add/", "mira")
    yield State("passkey, change", "/account/two-step/", "vera", click(".rows a"))
    yield State("passkey, no name", "/account/two-step/", "vera", then(click(".rows a"), fill(name=" ")))
    yield State("devices", "/account/devices/", "mira")
    yield State("devices, only this one", "/account/devices/", "nils")
    yield State("activity", "/account/activity/", "mira")
    yield State("activity, older", "/account/activity/", "tess", click('a[href^="?cursor"]'))
    yield State("data", "/account/data/", "nils")
    yield State("data, a copy is being made", "/account/data/", "omar")
    yield State("data, a copy is ready", "/account/data/", "mira")
    yield State("data, deletion planned", "/account/data/", "lea")
    yield State("delete", "/account/delete/", "mira")
    yield State("delete, password wanted", "/account/delete/", "omar")
    yield State("delete, wrong password", "/account/delete/", "omar", fill(password="no"))
    yield State("sign out", "/account/logout/", "mira")
    yield State("enter your password again", "/account/reauthenticate/", "mira")
    yield State("enter your password again, wrong", "/account/reauthenticate/", "omar", fill(password="no"))


def failures() -> Iterator[State]:
    yield State("404", "/account/nothing/")
    yield State("403, the page was open too long", "/account/login/", act=without_cookies)
    for name in ("400", "403", "405", "413", "429", "500", "503"):
        yield State(name, template=f"{name}.html")
    yield State("sign up, closed", template="account/signup_closed.html")


def other_languages(cast: "Cast") -> Iterator[State]:
    yield State("Arabic: sign in", "/account/login/", language="ar")
    yield State("Arabic: sign up, mistakes", "/account/signup/", act=send, language="ar")
    yield State("Arabic: overview", "/account/", "rima", language="ar")
    yield State("Arabic: profile", "/account/profile/", "rima", language="ar")
    yield State("Arabic: two-step and passkeys", "/account/two-step/", "rima", language="ar")
    yield State("Arabic: devices", "/account/devices/", "rima", language="ar")
    new = fill(username="newcomer", email="newcomer@example.com", password=PASSWORD)
    yield State("Arabic: sign up, busy network", "/account/signup/", act=challenged(cast, new), language="ar")
    yield State("German: sign up", "/account/signup/", language="de")


def admin(cast: "Cast") -> Iterator[State]:
    def page(name: str, path: str, act: Act | None = None, language: str = "en") -> State:
        return State(f"admin: {name}", f"/admin/{path}", "stan", act, language=language, by_others=True)

    yield page("start", "")
    yield page("users", "accounts/user/")
    yield page("users, nobody found", "accounts/user/?q=nobody")
    yield page("user", f"accounts/user/{cast.ids['mira']}/change/")
    yield page("user, asked once more", f"accounts/user/{cast.ids['mira']}/change/", choose_at_admin("disable"))
    yield page("user, history", f"accounts/user/{cast.ids['mira']}/history/")
    yield page("devices", "accounts/session/")
    yield page("directory", "directory/")
    yield page("statistics", "statistics/")
    yield page("events", "accounts/event/")
    yield page("mails", "post_office/email/")
    yield page("Arabic", f"accounts/user/{cast.ids['nils']}/change/", language="ar")
    yield State("403, not staff", "/admin/", "mira")


# --- Who stands behind it -----------------------------------------------------------------------------------


@dataclass
class Cast:
    """People on a running service, and a browser of each."""

    service: Service
    browser: Browser
    links: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    _cookies: dict[str, Any] = field(default_factory=dict)
    _pages: dict[tuple[str, str], Page] = field(default_factory=dict)

    def gather(self) -> "Cast":
        """Sign everybody up, through the API as an app does, and let the workers do their part."""
        service = self.service
        tokens = {name: self._sign_up(name) for name in ("mira", "nils", "lea", "omar", "tess", "stan", "rima", "vera")}
        for name in ("mira", "lea", "omar", "stan", "vera"):
            code = service.code(f"{name}@example.com", "onfirm")
            assert service.post("/me/email/confirm", {"code": code}, tokens[name]).ok
        service.sql("UPDATE accounts_user SET is_staff = true, is_superuser = true WHERE username = 'stan'")
        picture = {"file": ("me.png", _face(), "image/png")}
        for name in ("mira", "stan"):
            headers = {"Authorization": f"Bearer {tokens[name]}"}
            answer = requests.put(f"{service.url}/api/v1/me/picture", files=picture, headers=headers, timeout=10)
            assert answer.ok, answer.text
        self._sign_in_app("mira", "Tablet in the kitchen")
        assert service.post("/me/export", {}, tokens["mira"]).ok
        assert service.post("/me/deletion", {"password": PASSWORD}, tokens["lea"]).ok
        assert service.post("/me/email", {"email": "omar2@example.com", "password": PASSWORD}, tokens["omar"]).ok
        code = service.code("omar2@example.com", "onfirm")
        assert service.post("/me/email/confirm", {"code": code}, tokens["omar"]).ok
        self._cookies["tess"] = self.signed_in("tess")
        for _try in range(11):  # and none is left
            service.post("/token", {"login": "tess", "password": "no"})
        service.sql(
            "INSERT INTO accounts_event (id, user_id, kind, created_at, device, data)"
            " SELECT gen_random_uuid(), id, 'picture.changed', now() - interval '1 day', 'Firefox on Linux', '{}'"
            " FROM accounts_user, generate_series(1, 60) WHERE username = 'tess'"
        )
        assert service.post("/password/forgot", {"login": "stan"}).ok
        self.links = {
            "reset": service.link("stan@example.com", "assword"),
            "confirm": service.link("nils@example.com", "onfirm"),
            "undo": service.link("omar@example.com", "was changed"),
            "keep": service.link("lea@example.com", "will be deleted"),
        }
        eventually(lambda: service.sql("SELECT 1 FROM accounts_export WHERE state = 'ready'"))
        self._cookies["omar"] = self.signed_in("omar")
        service.sql(
            "UPDATE accounts_session SET authenticated_at = now() - interval '1 day'"
            " WHERE user_id = (SELECT id FROM accounts_user WHERE username = 'omar')"
        )
        assert service.post("/me/email", {"email": "omar3@example.com", "password": PASSWORD}, tokens["omar"]).ok
        service.sql(
            "INSERT INTO accounts_export (id, user_id, state, key, requested_at, tries, claimed_until, device) SELECT"
            " gen_random_uuid(), id, 'queued', 'x', now(), 0, now() + interval '1 day', '' FROM accounts_user"
            " WHERE username = 'omar'"
        )
        self._set_up_second_factors("vera", tokens["vera"])
        self._cookies["stan"] = self.signed_in("stan")
        service.sql("UPDATE accounts_session SET authenticated_by = 'pwd otp mfa' WHERE kind = 'browser' AND user_id IN"
                    " (SELECT id FROM accounts_user WHERE username IN ('stan', 'vera'))")  # fmt: skip
        self.ids = {str(name): str(user_id) for name, user_id in service.sql("SELECT username, id FROM accounts_user")}
        return self

    def _sign_up(self, name: str) -> str:
        # Nils has told nothing that he need not.
        names = {"first_name": name.title(), "last_name": "Lindqvist"} if name != "nils" else {}
        person = {
            "username": name, "email": f"{name}@example.com", "password": PASSWORD, **names,
            "device": {"name": f"{name.title()}'s phone"},
        }  # fmt: skip
        answer = self.service.post("/signup", person)
        assert answer.ok, answer.text
        return str(answer.json()["tokens"]["access_token"])

    def _set_up_second_factors(self, name: str, token: str) -> None:
        service = self.service
        self._cookies[name] = self.signed_in(name)  # before it takes two steps
        begun = service.post("/me/mfa/passkeys/begin", {}, token).json()
        made = {"state": begun["state"], "credential": Device(origin=service.url).create(begun["options"])}
        assert service.post("/me/mfa/passkeys", {**made, "name": "Vera's phone"}, token).ok
        setup = service.post("/me/mfa/totp", {}, token).json()
        body = {"state": setup["state"], "code": App(setup["secret"]).code()}
        assert service.post("/me/mfa/totp/confirm", body, token).ok

    def _sign_in_app(self, name: str, device: str) -> None:
        body = {"login": name, "password": PASSWORD, "device": {"name": device}}
        assert self.service.post("/token", body).ok

    def signed_in(self, name: str) -> Any:
        context = self.browser.new_context(base_url=self.service.url, user_agent=CHROME)
        page = context.new_page()
        sign_in(page, name, PASSWORD)
        page.wait_for_url("**/account/**")
        cookies = context.storage_state()
        context.close()
        return cookies

    @contextmanager
    def at(self, state: State) -> Iterator["Shown"]:
        """The page in this state."""
        page = self._page(state.who, state.language)
        shown = Shown(page, state)
        yield shown
        shown.leave()
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light")

    def _page(self, who: str, language: str) -> Page:
        """One browser and one window for each: a new window costs more than most pages."""
        if (who, language) not in self._pages:
            if who != "visitor" and who not in self._cookies:
                self._cookies[who] = self.signed_in(who)
            context = self.browser.new_context(
                base_url=self.service.url, locale=language, viewport=DESK,
                reduced_motion="reduce", user_agent=CHROME, storage_state=self._cookies.get(who),
            )  # fmt: skip
            self._pages[who, language] = context.new_page()
            self._pages[who, language].set_default_timeout(60_000)
        return self._pages[who, language]

    def close(self) -> None:
        for page in self._pages.values():
            page.context.close()


class Shown:
    """A page that has come into its state, and what was heard on the way."""

    def __init__(self, page: Page, state: State) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.html = ""  # as the service sent it
        self._listeners: dict[Any, Callable[[Any], None]] = {
            "console": lambda message: self._hear(message.text) if message.type == "error" else None,
            "pageerror": lambda error: self._hear(str(error)),
            "response": self._keep,
        }
        for event, listener in self._listeners.items():
            page.on(event, listener)
        self._last: list[Response] = []
        path = state.path
        if state.template:
            path = "/shown"
            with translation.override(state.language):
                body = render_to_string(state.template, WORDS)
            self.page.route("**/shown", lambda route: route.fulfill(body=body, content_type="text/html; charset=utf-8"))
        self.page.goto(path)
        if state.act:
            state.act(self.page)
        self.page.wait_for_load_state("load")
        # What is looked at after a change of colours is the end of it.
        self.page.evaluate(_AT_ONCE)
        self.html = self._last[-1].text()

    def leave(self) -> None:
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        self.page.unroute_all()

    def _hear(self, said: str) -> None:
        if not re.search(r"Failed to load resource: the server responded with a status of 4", said):
            self.complaints.append(said)

    def _keep(self, response: Response) -> None:
        if response.request.is_navigation_request() and response.status not in {301, 302}:
            self._last.append(response)


def _face() -> bytes:
    image = Image.new("RGB", (512, 512), "#8fb8de")
    draw = ImageDraw.Draw(image)
    draw.ellipse((156, 96, 356, 296), fill="#f3d2b3")
    draw.ellipse((76, 316, 436, 676), fill="#2f6f73")
    draw.pieslice((146, 76, 366, 286), 180, 360, fill="#5b3a29")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
