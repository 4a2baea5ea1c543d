"""The public door of docker-compose.yml, in front of the service under HTTPS: what it adds and what it leaves alone."""

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from project.devstack.servers import BASE, free_ports, listens
from project.wsgi import MOST_BODY
from tests.conftest import PASSWORD
from tests.e2e.conftest import Service, eventually
from tests.e2e.nginx import NGINX, nginx

pytestmark = pytest.mark.skipif(not NGINX, reason="no nginx here: apt-get install nginx-light")

SAFETY = {
    "X-Content-Type-Options", "Content-Security-Policy", "X-Frame-Options", "Referrer-Policy", "Permissions-Policy",
    "Cross-Origin-Opener-Policy",
}  # fmt: skip


class Door(NamedTuple):
    url: str
    service: Service
    folder: Path
    settings: dict[str, str]

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, headers=HTTPS, allow_redirects=False, timeout=10)


LARGE, LARGEST = b"x" * 2_000_000, b"x" * (12 * 2**20 - 1)
OWN_CORS = {"/api/": "*", "/acco": None}  # of what nginx refuses by itself
HTTPS = {"X-Forwarded-Proto": "https", "Host": "accounts.example.com"}


@pytest.fixture(scope="module")
def door(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("nginx")
    listen, web = free_ports(2)
    before = service.settings
    settings = {
        **before,
        "PUBLIC_URL": "https://accounts.example.com",
        "ALLOWED_HOSTS": "accounts.example.com,localhost",
        "TRUSTED_PROXY_COUNT": "1",
    }
    service.settings = settings
    service.run_web("web under https", web)
    service.settings = before
    process = nginx(folder, listen=listen, web=web)
    made = Door(f"http://127.0.0.1:{listen}", service, folder, settings)
    try:
        eventually(lambda: service.ready(web), within=30)
        yield made
    finally:
        process.terminate()
        process.wait(timeout=10)
        service.kill("web under https")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/account/login/", 200),
        ("/account/nothing/", 404),
        ("/api/v1/config", 200),
        ("/api/v1/docs", 200),
        ("/api/v1/me", 401),
        ("/admin/", 302),
        ("/static/css/account.css", 200),
        ("/static/nothing.css", 404),
        ("/readyz", 404),  # nginx's own page
        ("/metrics", 404),
    ],
)
def test_each_answer_carries_each_header_of_safety_once(door: Door, path: str, status: int) -> None:
    answer = door.get(path)
    assert answer.status_code == status
    for name in SAFETY:
        assert len(answer.raw.headers.getlist(name)) == 1, (name, answer.headers)
    # That is the setting HSTS of the service, which nginx does not know.
    own = path.startswith(("/static/", "/readyz", "/metrics"))
    assert answer.raw.headers.getlist("Strict-Transport-Security") == ([] if own else ["max-age=31536000"])
    assert len(answer.raw.headers.getlist("Cache-Control")) <= 1
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_file_is_compressed_and_a_page_is_not(door: Door) -> None:
    assert door.get("/static/css/account.css").headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in door.get("/account/login/").headers


def test_a_body_that_is_too_large_is_refused_in_the_form_of_its_face(door: Door) -> None:
    body = b"x" * (13 * 1024 * 1024)
    for path, kind in (("/account/login/", "text/plain"), ("/api/v1/token", "application/problem+json")):
        answer = requests.post(door.url + path, data=body, headers=HTTPS, timeout=10)
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == kind
        assert answer.headers.get("Access-Control-Allow-Origin") == OWN_CORS[path[:5]]
        assert answer.headers["Cache-Control"] == "no-store"
        assert set(answer.headers) >= SAFETY


def test_a_refusal_arrives_whatever_the_size_of_the_body(door: Door) -> None:
    """Where the service answers without reading the body, the connection must not be cut while nginx is still sending:
    it would answer 503 itself, and an app would send the same again."""
    json, picture = {"Content-Type": "application/json"}, {"Content-Type": "multipart/form-data; boundary=x"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    others = [
        ("POST", "/api/v1/signup", json, LARGE),
        ("PUT", "/api/v1/me/picture", picture, LARGEST),
        ("POST", "/api/v1/nothing", json, LARGE),
        ("POST", "/account/login/", form, LARGE),
    ]
    seen = Counter(
        (path, answer.status_code, answer.headers["Content-Type"].partition(";")[0])
        for number in range(60)
        for method, path, kind, body in (("POST", "/api/v1/token", json, LARGE), others[number % 4])
        for answer in [requests.request(method, door.url + path, data=body, headers={**HTTPS, **kind}, timeout=60)]
    )
    assert seen == {
        ("/api/v1/token", 413, "application/problem+json"): 60,
        ("/api/v1/signup", 413, "application/problem+json"): 15,
        ("/api/v1/me/picture", 401, "application/problem+json"): 15,
        ("/api/v1/nothing", 404, "application/problem+json"): 15,
        ("/account/login/", 413, "text/html"): 15,
    }


def test_the_service_reads_as_much_of_a_refused_body_as_nginx_lets_through() -> None:
    limit = re.search(r"client_max_body_size (\d+)m;", (BASE / "docker/nginx.conf").read_text())
    assert limit is not None
    assert int(limit[1]) * 2**20 == MOST_BODY


class EarlierVersion(BaseHTTPRequestHandler):
    """It has none of this version's files."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def test_a_file_that_one_version_has_not_comes_from_the_other(service: Service, tmp_path: Path) -> None:
    (listen,) = free_ports(1)
    with ThreadingHTTPServer(("127.0.0.1", 0), EarlierVersion) as earlier:
        threading.Thread(target=earlier.serve_forever).start()
        process = nginx(tmp_path, listen=listen, web=service.port, beside=[earlier.server_port])
        try:
            eventually(lambda: listens(listen))
            for path, statuses in (("/static/css/account.css", {200}), ("/account/login/", {200, 404})):
                url = f"http://127.0.0.1:{listen}{path}"
                assert {requests.get(url, timeout=60).status_code for _ in range(6)} == statuses, path
        finally:
            process.terminate()
            process.wait(timeout=60)
            earlier.shutdown()


class Repeats(EarlierVersion):
    """Says what headers reached it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.headers).encode())


def test_no_header_that_is_another_ones_name_to_wsgi_gets_through(tmp_path: Path) -> None:
    (listen,) = free_ports(1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Repeats) as web:
        threading.Thread(target=web.serve_forever).start()
        process = nginx(tmp_path, listen=listen, web=web.server_port)
        try:
            eventually(lambda: listens(listen))
            sent = {"X_Forwarded_For": "203.0.113.7", "X-Forwarded_For": "203.0.113.8", "X-Proof": "ours"}
            told = requests.get(f"http://127.0.0.1:{listen}/", headers=sent, timeout=60).text
        finally:
            process.terminate()
            process.wait(timeout=60)
            web.shutdown()
    assert "X-Proof: ours" in told
    assert "X-Forwarded-For: 127.0.0.1" in told
    assert "203.0.113" not in told


def test_every_cookie_is_secure_and_bound_to_the_host(door: Door) -> None:
    name = f"cookie{os.getpid()}"
    person = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    assert door.service.post("/signup", person).status_code == 201
    browser = requests.Session()
    seen: dict[str, str] = {}

    def note(answer: requests.Response) -> requests.Response:
        for line in answer.raw.headers.getlist("Set-Cookie"):
            cookie, _, attributes = line.partition(";")
            seen[cookie.partition("=")[0]] = attributes
        # requests keeps secure cookies from plain HTTP; this test is the TLS proxy.
        jar.update({cookie.name: str(cookie.value) for cookie in answer.cookies})
        return answer

    jar: dict[str, str] = {}

    def send(path: str, **body: str) -> requests.Response:
        headers = {**HTTPS, "Cookie": "; ".join(f"{key}={value}" for key, value in jar.items())}
        headers["Origin"] = "https://accounts.example.com"
        data = {**body, "csrfmiddlewaretoken": jar.get("__Host-csrf", "")}
        method = browser.post if body else browser.get
        return note(method(door.url + path, data=data, headers=headers, allow_redirects=False, timeout=10))

    send("/account/login/")
    assert send("/account/login/", login=name, password=PASSWORD).status_code == 302
    send("/account/language/", language="de", next="/account/")
    assert send("/account/devices/end-others/", x="").status_code == 302  # leaves a message
    assert set(seen) == {"__Host-csrf", "__Host-session", "__Host-language", "__Host-messages"}
    for attributes in seen.values():
        words = {part.strip().lower() for part in attributes.split(";")}
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= words
        assert not any(word.startswith("domain") for word in words)


def test_no_key_of_a_link_stands_in_the_log(door: Door) -> None:
    for path in ("confirm-email", "password/reset/key", "email/undo", "delete/undo"):
        door.get(f"/account/{path}/{'0' * 32}-secret-of-the-link/")
    written = (door.folder / "access.log").read_text()
    assert written.count("/account/") >= 4
    assert "secret-of-the-link" not in written


def test_while_the_service_is_down_each_face_says_so(door: Door) -> None:
    door.service.kill("web under https")
    try:
        for path, kind in (("/account/login/", "text/plain"), ("/api/v1/me", "application/problem+json")):
            answer = door.get(path)
            assert answer.status_code == 503
            assert answer.headers["Content-Type"] == kind
            assert answer.headers.get("Access-Control-Allow-Origin") == OWN_CORS[path[:5]]
            assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("5", "no-store")
            assert set(answer.headers) >= SAFETY
    finally:
        door.service.settings, before = door.settings, door.service.settings
        door.service.run(*("web under https", *door.service.commands["web under https"]))
        door.service.settings = before
        eventually(lambda: door.get("/livez").ok, within=30)
