"""`python -m tests.museum`: whether the contract of today keeps what each release promised. Needs no server."""

import json
import sys

from tests.museum import CURRENT, RELEASES
from tests.museum.promise import breaks


def main() -> int:
    broken = 0
    for release in RELEASES:
        for line in breaks(json.loads((release / "contract.json").read_text()), json.loads(CURRENT.read_text())):
            print(f"breaks {release.name}: {line}")
            broken += 1
    if broken:
        print("Old apps rely on this: add beside it, or make it /api/v2 (docs/decisions/versions.md).")
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
