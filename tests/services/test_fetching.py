"""Which addresses are asked. What else a server may do: test_breached_passwords.py and test_id_tokens.py."""

import pytest

from accounts.lib import fetching

INSIDE = [
    "10.0.0.1", "127.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",  # noqa: S104
    "[::1]", "[::]", "[fd00::1]", "[ff02::1]", "[::ffff:10.0.0.1]", "[64:ff9b::10.0.0.1]", "[2002:0a00:0001::1]",
    "localhost", "2130706433", "0x7f.1",
]  # fmt: skip
NOWHERE = ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[64:ff9b::169.254.169.254]"]
OPEN = ["http://example.com/", "ftp://example.com/", "file:///etc/passwd", "https:///", "example.com", "", "http://["]


def test_nothing_inside_and_nothing_in_the_open_is_asked() -> None:
    def refusal(url: str, *, internal: bool) -> str:
        with pytest.raises(fetching.Refused) as refused:
            fetching.fetch(url, seconds=300, max_bytes=1, internal=internal)
        return str(refused.value)

    rows = [(f"https://{host}/", False, "an address inside") for host in INSIDE + NOWHERE]
    rows += [(f"https://{host}/", True, "an address inside") for host in NOWHERE]
    rows += [(url, True, "not https") for url in OPEN]
    assert [row for row in rows if refusal(row[0], internal=row[1]) != row[2]] == []


def test_the_rest_of_the_world_may_be_asked() -> None:
    for address in ("1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"):
        assert not fetching._is_off_limits(address, internal=False), address
    for address in ("10.0.0.1", "127.0.0.1", "::1", "fd00::1"):
        assert not fetching._is_off_limits(address, internal=True), address
