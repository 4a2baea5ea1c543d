"""Who asks, as far as rules care: address, device and language. The faces make one (accounts/http.py)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from ua_parser import BasicResolver, Domain, load_lazy_builtins

from accounts.lib import typed


@dataclass(frozen=True)
class Device:
    """What an app says about itself. Its name is a person's own words: "Ada's iPhone"."""

    name: str
    platform: str = ""
    app_version: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "platform", "app_version"):
            object.__setattr__(self, field, seen(getattr(self, field)))


def seen(text: str) -> str:
    """The visible text on one line: no control characters, none that hide or reverse others."""
    return typed.line("".join(" " if typed.is_control(character) else character for character in text))


@dataclass(frozen=True)
class Caller:
    ip: str | None
    user_agent: str = ""
    device: Device | None = None
    known_as: str = ""  # the label of a caller that was stored
    language: str = ""  # the one that the request is answered in
    by_staff: bool = False  # services/staff/actions.py
    proof: str = ""  # of work: services/security/proofs.py

    @property
    def label(self) -> str:
        """What a person recognises: the app's own name, else "Firefox on Linux"."""
        return self.known_as or (self.device.name if self.device else "") or browser_name(self.user_agent)


@lru_cache(maxsize=1)
def _rules() -> BasicResolver:
    """Without those for devices, which nobody asks for: they take 25 MB."""
    agents, systems, _devices = load_lazy_builtins()
    return BasicResolver((agents, systems, []))


@lru_cache(maxsize=1024)
def browser_name(user_agent: str) -> str:
    """ "Firefox on Linux". An app that names no device is called by its own name, or by that of what it is built on."""
    found = _rules()(user_agent[:500], Domain.USER_AGENT | Domain.OS)
    agent = found.user_agent.family if found.user_agent else ""
    system = found.os.family if found.os else ""
    if "/" in agent:  # "Mobile Safari UI/WKWebView": some app that shows pages
        agent = ""
    words = dict.fromkeys((_product(user_agent) or agent, system))  # an old Android browser is called "Android" too
    return " on ".join(word for word in words if word and word != "Other") or "Unknown device"


def _product(user_agent: str) -> str:
    """How an app's agent begins: "User%20Service/1 CFNetwork/1490". Browsers all begin alike."""
    name = seen(unquote(re.split("[/(]", user_agent[:500], maxsplit=1)[0]))
    return name if re.fullmatch(r"\w[\w .&+-]{1,39}", name) and name not in {"Mozilla", "Dalvik"} else ""


NOBODY = Caller(ip=None, user_agent="")
