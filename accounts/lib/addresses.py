"""Email addresses whose domain is not ASCII (docs/decisions/typing.md): `x@bücher.example` is stored, looked up and
mailed to as `x@xn--bcher-kva.example`, and shown as people know it."""

import unicodedata

import idna

from accounts.lib import lookalikes


def fold(address: str) -> str:
    """In lower case, the domain in ASCII (UTS 46). What is no domain stays, to be refused."""
    local, at, domain = address.rpartition("@")
    return f"{local.lower()}{at}{_ascii(domain).lower()}"


def _ascii(domain: str) -> str:
    # UTS 46 would drop a zero width space or a soft hyphen, but nobody sees that it is there. IDNA allows the two
    # joiners where a script needs them.
    if domain.isascii() or any(unicodedata.category(one) == "Cf" and one not in "\u200c\u200d" for one in domain):
        return domain
    try:
        return idna.encode(domain, uts46=True).decode()
    except UnicodeError:
        return domain


def shown(address: str) -> str:
    """The domain as people know it. In ASCII if it could be taken for another one, as browsers do."""
    local, at, domain = address.rpartition("@")
    if "xn--" not in domain:
        return address
    try:
        known = idna.decode(domain)
    except UnicodeError:  # somebody made it up
        return address
    labels = [label for label in known.split(".") if not label.isascii()]
    is_plain = known.rpartition(".")[2].isascii()  # the top-level domain of a wholly Cyrillic one is Cyrillic too
    if all(lookalikes.may_mix(lookalikes.scripts(one)) for one in labels) and not (
        is_plain and any(lookalikes.skeleton(one).isascii() for one in labels)
    ):
        return f"{local}{at}{known}"
    return address
