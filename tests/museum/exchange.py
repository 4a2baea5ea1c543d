"""How traffic is kept: a list of steps as JSON, each one request of an app with its answer.

    {"ask": "POST /token", "body": {...}, "as": "access", "headers": {...}, "file": "base64",
     "keep": {"access": "tokens.access_token"}, "status": 200, "answer": {...}}
    {"mail": "ada@example.com", "keep": {"code": "code", "key": "key"}}
    {"app": "{secret}", "steps": 0, "keep": {"code": "code"}}
    {"passkey": "create" or "get", "options": "{options}", "keep": {"credential": "answer"}}

Text such as "{access}" stands for what an earlier step kept. In answers, what differs from run to run stands as
its kind: "{uuid}", "{time}", "{url}", "{number}", "{text}"."""

import base64
import re
from typing import Any

from accounts.services.account import email_requests
from tests.conftest import Api, Mailbox
from tests.factors import App, Device

Step = dict[str, Any]
PUBLIC_URL = "https://accounts.example.com"

KINDS = {
    "{uuid}": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"),
    "{time}": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z"),
    "{url}": re.compile(r"https?://\S+\Z"),
}
# Words for people, and what chance makes.
TEXTS = {
    "detail", "title", "request_id", "access_token", "refresh_token", "reset_key", "next", "ip", "ticket", "secret",
    "uri", "recovery_codes", "challenge", "id", "placeholder",
}  # fmt: skip
TEXTS |= {"key", "policy", "x-amz-credential", "x-amz-date", "x-amz-signature"}  # of a form for the storage
NUMBERS = {"expires_in", "retry_after"}
NUMBERS |= {"image/jpeg", "image/png", "image/webp", "image/heic", "image/avif"}  # of pixels


class Walk:
    """One app that goes through the steps."""

    def __init__(self, api: Api, mailbox: Mailbox) -> None:
        self.api, self.mailbox = api, mailbox
        self.kept: dict[str, Any] = {}
        self.device = Device(origin=PUBLIC_URL)

    def take(self, step: Step) -> tuple[int, Any]:
        """Status and body of the answer; (0, None) for what happens beside the API."""
        if "mail" in step:
            email_requests.answer()
            for name, what in step["keep"].items():
                self.kept[name] = getattr(self.mailbox, what)(step["mail"])
            return 0, None
        if "app" in step:
            self.kept |= {name: App(self._filled(step["app"])).code(step["steps"]) for name in step["keep"]}
            return 0, None
        if "passkey" in step:
            answered = getattr(self.device, step["passkey"])(self._filled(step["options"]))
            self.kept |= dict.fromkeys(step["keep"], answered)
            return 0, None
        answer = self._ask(step)
        body = answer.json() if answer.content else None
        for name, path in step.get("keep", {}).items():
            self.kept[name] = answer[path.removeprefix("@")] if path.startswith("@") else _at(body, path)
        return answer.status_code, body

    def _ask(self, step: Step) -> Any:
        method, path = self._filled(step["ask"]).split(" ")
        token = self.kept[step["as"]] if "as" in step else ""
        headers = {
            f"HTTP_{name.upper().replace('-', '_')}": self._filled(value)
            for name, value in {"X-App-Version": "1.0", **step.get("headers", {})}.items()
        }
        if "file" in step:
            return self.api.upload(base64.b64decode(step["file"]), token=token, **headers)
        return self.api(method, path, self._filled(step.get("body")), token=token, **headers)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(inner) for key, inner in value.items()}
        if isinstance(value, str):
            for name, kept in self.kept.items():
                if value == f"{{{name}}}":
                    return kept
                value = value.replace(f"{{{name}}}", str(kept))
        return value


def _at(body: Any, path: str) -> Any:
    for part in path.split("."):
        body = body[int(part)] if part.isdecimal() else body[part]
    return body


def general(value: Any, key: str = "") -> Any:
    """An answer with what differs from run to run put as its kind."""
    if isinstance(value, dict):
        return {name: general(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [general(inner, key) for inner in value]
    if isinstance(value, str):
        named = next((kind for kind, pattern in KINDS.items() if pattern.match(value)), None)
        # A state is a word of a few, or what comes back with an answer.
        text = key in TEXTS or (key == "state" and len(value) > 40)
        return named or ("{text}" if text else value)
    return "{number}" if key in NUMBERS and value is not None else value


def missing(recorded: Any, actual: Any, where: str = "") -> list[str]:
    """What an app that knows the recorded answer would miss in the actual one. More is no harm."""
    if isinstance(recorded, dict):
        if not isinstance(actual, dict):
            return [f"{where or 'the body'}: {actual!r} is no object"]
        lost = [f"{where}.{name}: gone" for name in recorded if name not in actual]
        kept = [name for name in recorded if name in actual]
        return lost + [line for name in kept for line in missing(recorded[name], actual[name], f"{where}.{name}")]
    if isinstance(recorded, list):
        if where == ".errors" and isinstance(actual, list):
            actual = actual[: len(recorded)]  # more mistakes may be told, after those that were
        if _is_of_words(recorded) and isinstance(actual, list):
            return [f"{where}: {word!r} is gone" for word in recorded if word not in actual]
        if not isinstance(actual, list) or len(actual) != len(recorded):
            return [f"{where}: {actual!r} instead of {len(recorded)} items"]
        pairs = enumerate(zip(recorded, actual, strict=True))
        return [line for number, (was, now) in pairs for line in missing(was, now, f"{where}[{number}]")]
    return [] if _same(recorded, actual) else [f"{where}: {actual!r} instead of {recorded!r}"]


def _is_of_words(recorded: list[Any]) -> bool:
    """A list of what there is to choose from, such as content types: it may grow like a shape does."""
    return bool(recorded) and all(isinstance(item, str) and not item.startswith("{") for item in recorded)


def _same(recorded: Any, actual: Any) -> bool:
    if recorded in KINDS:
        return isinstance(actual, str) and bool(KINDS[recorded].match(actual))
    if recorded == "{text}":
        return isinstance(actual, str)
    if recorded == "{number}":
        return isinstance(actual, int)
    return type(recorded) is type(actual) and recorded == actual
