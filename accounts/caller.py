"""Who asks, as far as rules care: address, device and language. The faces make one (accounts/http.py)."""

from dataclasses import dataclass
from functools import lru_cache

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
    found = _rules()(user_agent[:500], Domain.USER_AGENT | Domain.OS)
    agent = found.user_agent.family if found.user_agent else ""
    system = found.os.family if found.os else ""
    if agent == "Other":
        agent = ""
    return " on ".join(word for word in (agent, system) if word and word != "Other") or "Unknown device"


NOBODY = Caller(ip=None, user_agent="")
