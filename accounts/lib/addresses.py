"""Email addresses whose domain is not ASCII (docs/decisions/typing.md): `x@bücher.example` is stored, looked up and
mailed to as `x@xn--bcher-kva.example`, and shown as people know it."""

import unicodedata

import idna

from accounts.lib import lookalikes


def fold(address: str) -> str:
    """In lower case, the domain in ASCII (UTS 46). What is no domain stays, to be refused."""
    local, at, domain = address.rpartition("@")
    return f"{local.lower()}{at}{fold_domain(domain)}"


def fold_domain(domain: str) -> str:
    return _ascii(domain).lower()


def _ascii(domain: str) -> str:
    # UTS 46 would drop a zero width space or a soft hyphen, but nobody sees that it is there. IDNA allows the two
    # joiners where a script needs them.
    if domain.isascii() or any(unicodedata.category(one) == "Cf" and one not in "\u200c\u200d" for one in domain):
        return domain
    try:
        return idna.encode(domain, uts46=True).decode()
    except UnicodeError:
        return _with_symbols(domain)


def _with_symbols(domain: str) -> str:
    """`xn--n3h.example` for `☃.example`, as browsers have it (UTS 46). IDNA 2008 has no symbols, but there are such
    domains, and they are typed either way. All else in them must be IDNA's."""
    try:
        labels = idna.uts46_remap(domain, std3_rules=True, transitional=False).split(".")
        for label in labels:
            if rest := "".join(one for one in label if unicodedata.category(one) != "So"):
                idna.encode(rest)
    except UnicodeError:
        return domain
    return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels)


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
