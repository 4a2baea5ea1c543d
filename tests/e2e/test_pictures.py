"""What JavaScript adds to the forms with a picture, and that nothing is missing without it."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from tests.conftest import PASSWORD
from tests.e2e.chromium import axe, browser, press, sign_in
from tests.e2e.conftest import Service, eventually

pytestmark = browser

RED, BLUE, GREEN = (200, 30, 30), (30, 30, 200), (30, 160, 60)


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """Red, green and blue, each as wide as high."""
    image = Image.new("RGB", (1200, 400), GREEN)
    image.paste(RED, (0, 0, 400, 400))
    image.paste(BLUE, (800, 0, 1200, 400))
    image.save(tmp_path / "flag.png")
    return tmp_path / "flag.png"


@pytest.fixture
def context(chromium: Browser, service: Service) -> Iterator[BrowserContext]:
    found = chromium.new_context(base_url=service.url, permissions=["clipboard-read", "clipboard-write"])
    found.set_default_timeout(8000)
    yield found
    found.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    said: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    assert said == []


@pytest.fixture
def name(service: Service) -> str:
    """Somebody with an account."""
    made = f"p{uuid4().hex[:10]}"
    answer = service.post("/signup", {"username": made, "email": f"{made}@example.com", "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return made


@pytest.fixture
def profile(page: Page, name: str) -> Page:
    """Their profile, opened."""
    sign_in(page, name, PASSWORD)
    page.wait_for_url("**/account/")
    page.goto("/account/profile/")
    return page


def choose(page: Page, file: Path) -> Any:
    page.locator("[type=file]").set_input_files(file)
    dialog = page.get_by_role("dialog", name="Position your picture")
    expect(dialog).to_be_visible()
    return dialog


def chosen(page: Page) -> list[str]:
    found: list[str] = page.evaluate("[...document.querySelector('[type=file]').files].map((file) => file.name)")
    return found


def stored(page: Page) -> Image.Image:
    """The picture of the page's account, as it is kept."""
    page.goto("/account/")
    answer = page.request.get(str(page.locator("main img").first.get_attribute("src")))
    assert answer.ok
    return Image.open(io.BytesIO(answer.body())).convert("RGB")


def near(color: Any, wanted: tuple[int, int, int]) -> bool:
    return all(abs(one - other) < 40 for one, other in zip(color, wanted, strict=True))


def colors(image: Image.Image) -> list[tuple[int, int, int]]:
    """Those of the left edge, the middle and the right edge."""
    found = []
    for part in (0.05, 0.5, 0.95):
        at = image.getpixel((int(image.width * part), image.height // 2))
        found += [name for name in (RED, GREEN, BLUE) if near(at, name)]
    return found


def save(page: Page) -> None:
    press(page, "Save")
    expect(page.get_by_text("Your profile has been saved.")).to_be_visible()


# --- The journey --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_sign_up_with_a_picture_then_the_code_and_there_is_the_overview(
    chromium: Browser, service: Service, flag: Path, javascript: bool
) -> None:
    context = chromium.new_context(
        base_url=service.url, java_script_enabled=javascript, timezone_id="Asia/Tokyo",
        permissions=["clipboard-read", "clipboard-write"],
    )  # fmt: skip
    page = context.new_page()
    page.set_default_timeout(8000)
    name = f"p{uuid4().hex[:10]}"
    page.goto("/account/signup/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Email").fill(f"{name}@example.com")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    if javascript:
        choose(page, flag)
        for _ in range(21):
            page.keyboard.press("ArrowLeft")
        page.get_by_role("button", name="Use picture").press("Enter")
        expect(page.locator("[type=file]")).to_be_focused()
    else:
        page.locator("[type=file]").set_input_files(flag)
        expect(page.get_by_role("dialog")).to_have_count(0)
    press(page, "Create account")
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm email address")

    code = service.code(f"{name}@example.com", "onfirm")
    typed = f"{code[:4]} {code[4:]}"
    if javascript:
        page.evaluate("(code) => navigator.clipboard.writeText(code)", typed)
        page.get_by_label("Code").press("Control+v")  # and no button
    else:
        page.get_by_label("Code").fill(typed)
        press(page, "Confirm email address")
    expect(page).to_have_url(f"{service.url}/account/")
    expect(page.get_by_text("Your email address is confirmed.")).to_be_visible()
    assert colors(stored(page)) == ([BLUE] * 3 if javascript else [GREEN] * 3)
    zone = service.sql("SELECT time_zone FROM accounts_user WHERE username = %s", name)
    assert zone == [("Asia/Tokyo" if javascript else "",)]
    context.close()


# --- Cutting ------------------------------------------------------------------------------------------------


def test_the_middle_is_cut_out_unless_somebody_moves_it(profile: Page, flag: Path) -> None:
    choose(profile, flag)
    press(profile, "Use picture")
    save(profile)
    assert colors(stored(profile)) == [GREEN] * 3


@pytest.mark.parametrize(("zoom", "seen"), [("", [RED, GREEN, GREEN]), ("End", [GREEN] * 3)])
def test_the_arrow_keys_move_and_the_slider_zooms(profile: Page, flag: Path, zoom: str, seen: object) -> None:
    dialog = choose(profile, flag)
    expect(dialog.get_by_label("Your picture")).to_be_focused()
    for _ in range(5):
        profile.keyboard.press("ArrowRight")
    if zoom:
        dialog.get_by_label("Zoom").press(zoom)
    press(profile, "Use picture")
    save(profile)
    assert colors(stored(profile)) == seen


def test_a_mouse_drags_and_its_wheel_zooms(profile: Page, flag: Path) -> None:
    dialog = choose(profile, flag)
    box = dialog.get_by_label("Your picture").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    profile.mouse.move(*middle)
    profile.mouse.down()
    profile.mouse.move(middle[0] + box["width"] * 1.5, middle[1], steps=4)
    profile.mouse.up()
    profile.mouse.move(*middle)
    profile.mouse.wheel(0, -400)
    expect(dialog.get_by_label("Zoom")).not_to_have_value("100")
    press(profile, "Use picture")
    save(profile)
    assert colors(stored(profile)) == [RED] * 3


def test_cancel_and_escape_leave_what_was_there_and_give_the_focus_back(profile: Page, flag: Path) -> None:
    for way_out in ("Cancel", "Escape"):
        choose(profile, flag)
        press(profile, way_out) if way_out == "Cancel" else profile.keyboard.press(way_out)
        expect(profile.get_by_role("dialog")).to_have_count(0)
        expect(profile.locator("[type=file]")).to_be_focused()
        eventually(lambda: chosen(profile) == [])
    choose(profile, flag)
    press(profile, "Use picture")
    expect(profile.locator("picture-field canvas")).to_be_visible()
    eventually(lambda: chosen(profile) == ["flag.jpg"])
    choose(profile, flag)
    press(profile, "Cancel")
    eventually(lambda: chosen(profile) == ["flag.jpg"])
    expect(profile.locator("picture-field canvas")).to_be_visible()


def test_what_is_sent_is_small_and_no_more_than_was_cut(profile: Page, tmp_path: Path) -> None:
    Image.effect_noise((1600, 1300), 80).convert("RGB").save(tmp_path / "large.png")
    choose(profile, tmp_path / "large.png")
    press(profile, "Use picture")
    eventually(lambda: chosen(profile) == ["large.jpg"])
    size = profile.evaluate(
        "createImageBitmap(document.querySelector('[type=file]').files[0]).then((it) => [it.width, it.height])"
    )
    assert size == [1024, 1024]


def test_a_picture_goes_straight_to_the_storage(service: Service, profile: Page, flag: Path) -> None:
    met: list[tuple[str, int, int]] = []

    def note(sent: Request) -> None:
        got = sent.response()
        if got and sent.method == "POST":
            met.append((sent.url, got.status, int(sent.header_value("content-length") or 0)))

    profile.on("requestfinished", note)
    choose(profile, flag).get_by_role("button", name="Use picture").click()
    save(profile)
    (form,) = [size for url, _status, size in met if url.endswith("/profile/")]
    (straight,) = [(status, size) for url, status, size in met if url.endswith(f"/{service.bucket}")]
    assert straight[0] == 204
    assert form < 2500 < straight[1], met  # the form's words, and no picture
    assert colors(stored(profile)) == [GREEN, GREEN, GREEN]


def test_where_the_storage_cannot_be_reached_the_form_carries_it(
    service: Service, context: BrowserContext, profile: Page, flag: Path
) -> None:
    context.route(f"**/{service.bucket}", lambda route: route.abort())
    choose(profile, flag).get_by_role("button", name="Use picture").click()
    save(profile)
    assert colors(stored(profile)) == [GREEN, GREEN, GREEN]


def test_a_file_that_no_browser_can_draw_goes_to_the_server_who_says_so(profile: Page, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    profile.locator("[type=file]").set_input_files(tmp_path / "no.png")
    press(profile, "Save")
    expect(profile.locator(".error-summary")).to_contain_text("We can't use that file")
    expect(profile.get_by_role("dialog")).to_have_count(0)
    assert chosen(profile) == []


def test_a_file_can_be_dropped_onto_the_field(profile: Page, flag: Path) -> None:
    profile.evaluate(
        """async (bytes) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
            const field = document.querySelector("picture-field");
            for (const kind of ["dragover", "drop"])
                field.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        list(flag.read_bytes()),
    )
    expect(profile.get_by_role("dialog")).to_be_visible()
    press(profile, "Use picture")
    eventually(lambda: chosen(profile) == ["dropped.jpg"])
    save(profile)
    assert colors(stored(profile)) == [GREEN] * 3


@pytest.mark.parametrize("language", ["en", "ar"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dialog_fits_a_narrow_phone_and_axe_finds_nothing(
    chromium: Browser, service: Service, flag: Path, language: str, scheme: Any
) -> None:
    context = chromium.new_context(
        base_url=service.url, locale=language, color_scheme=scheme, viewport={"width": 320, "height": 568},
        reduced_motion="reduce",
    )  # fmt: skip
    page = context.new_page()
    page.goto("/account/signup/")
    page.locator("[type=file]").set_input_files(flag)
    dialog = page.locator("dialog[open]")
    expect(dialog).to_be_visible()
    assert dialog.evaluate("(it) => it.scrollWidth <= it.clientWidth && it.getBoundingClientRect().right <= 320")
    for button in dialog.get_by_role("button").all():
        expect(button).to_be_in_viewport(ratio=1)
    assert axe(page) == []
    context.close()


# --- Sending ------------------------------------------------------------------------------------------------


def test_a_form_with_a_problem_comes_back_with_its_picture(profile: Page, flag: Path, name: str) -> None:
    choose(profile, flag)
    press(profile, "Use picture")
    profile.get_by_label("Username").fill("x")
    profile.get_by_label("Last name").fill("Lind")
    press(profile, "Save")
    summary = profile.locator(".error-summary")
    expect(summary).to_be_focused()
    assert profile.title().startswith("Error: ")
    expect(profile.get_by_label("Last name")).to_have_value("Lind")
    expect(profile.get_by_text("Choose the picture again")).to_have_count(0)
    expect(profile.locator("picture-field canvas")).to_be_visible()
    assert chosen(profile) == ["flag.jpg"]
    summary.get_by_role("link").click()
    expect(profile.get_by_label("Username")).to_be_focused()
    profile.get_by_label("Username").fill(name)
    save(profile)
    assert colors(stored(profile)) == [GREEN] * 3


def test_a_sign_up_with_a_problem_comes_back_with_its_picture(page: Page, flag: Path) -> None:
    page.goto("/account/signup/")
    page.get_by_label("First name").fill("Ada")
    choose(page, flag)
    press(page, "Use picture")
    press(page, "Create account")
    expect(page.locator(".error-summary")).to_be_focused()
    expect(page.get_by_label("First name")).to_have_value("Ada")
    assert chosen(page) == ["flag.jpg"]


def test_a_line_that_breaks_costs_nothing(context: BrowserContext, profile: Page, flag: Path) -> None:
    choose(profile, flag)
    press(profile, "Use picture")
    profile.get_by_label("Last name").fill("Lind")
    context.set_offline(True)
    press(profile, "Save")
    expect(profile.get_by_role("status").get_by_text("We didn't get an answer")).to_be_visible()
    assert chosen(profile) == ["flag.jpg"]
    expect(profile.get_by_label("Last name")).to_have_value("Lind")
    expect(profile.get_by_role("button", name="Save")).not_to_have_attribute("aria-disabled", "true")
    context.set_offline(False)
    save(profile)
    expect(profile.get_by_label("Last name")).to_have_value("Lind")


def test_while_it_is_sent_it_says_so_and_a_second_press_is_none(profile: Page, flag: Path) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    profile.route("**/account/profile/", hold)
    choose(profile, flag)
    press(profile, "Use picture")
    press(profile, "Save")
    expect(profile.get_by_text("Sending your picture…")).to_be_visible()
    expect(profile.get_by_role("progressbar")).to_be_visible()
    button = profile.get_by_role("button", name="Save")
    expect(button).to_have_attribute("aria-disabled", "true")
    button.click(force=True)
    while not held:  # the form, once the picture is in the storage
        profile.wait_for_timeout(50)
    profile.wait_for_timeout(200)
    assert len(held) == 1
    held.pop().continue_()
    while not held:  # the page that it leads to
        profile.wait_for_timeout(50)
    held.pop().continue_()
    expect(profile.get_by_text("Your profile has been saved.")).to_be_visible()


# --- Passwords, codes, zones --------------------------------------------------------------------------------


def test_a_new_password_gets_a_hint_while_it_is_typed(page: Page) -> None:
    page.goto("/account/signup/")
    page.get_by_label("Username").fill("margaret")
    hint = page.locator(".strength")
    for typed, said in {
        "plum": "Too short so far.",
        "Margaret 2026": "Too similar to your username or email address.",
        "aaaaaaaaaaaaaaaaaaaa": "Easy to guess. Add another word.",
        "abcdefghijklmnop": "Easy to guess. Add another word.",
        "1234567890123456": "Easy to guess. Add another word.",
        "passwordpassword": "Easy to guess. Add another word.",
        "plum tractor": "Good. One more word makes it strong.",
        "plum tractor lagoon": "Strong.",
        "": "",
    }.items():
        page.get_by_label("Password", exact=True).fill(typed)
        expect(hint).to_have_text(said)
    expect(hint).to_have_attribute("aria-live", "polite")
    page.goto("/account/login/")
    expect(page.locator(".strength")).to_have_count(0)


def test_a_code_is_sent_once_with_its_last_digit(page: Page, service: Service, name: str) -> None:
    sign_in(page, name, PASSWORD)
    page.wait_for_url("**/account/")
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.goto("/account/confirm-email/")
    page.get_by_label("Code").press_sequentially("1111 111")
    page.wait_for_timeout(200)
    assert posts == []
    page.get_by_label("Code").press_sequentially("1")
    expect(page.locator(".error-summary")).to_be_focused()
    assert len(posts) == 1
    page.wait_for_timeout(200)
    assert len(posts) == 1, "a code that comes back with a problem is not sent again by itself"
    page.get_by_label("Code").fill(service.code(f"{name}@example.com", "onfirm"))
    expect(page).to_have_url(f"{service.url}/account/")


def test_the_profile_proposes_the_zone_of_the_browser_where_none_is_chosen(
    chromium: Browser, service: Service, name: str
) -> None:
    context = chromium.new_context(base_url=service.url, timezone_id="America/New_York")
    page = context.new_page()
    page.set_default_timeout(8000)
    sign_in(page, name, PASSWORD)
    page.wait_for_url("**/account/")
    page.goto("/account/profile/")
    expect(page.get_by_label("Time zone")).to_have_value("America/New_York")
    page.get_by_label("Time zone").select_option("Europe/Berlin")
    save(page)
    expect(page.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    context.close()
