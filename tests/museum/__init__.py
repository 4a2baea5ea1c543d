"""The museum: what each released version of the API promised, and how it spoke.

`<version>/contract.json` is its OpenAPI document, `<version>/traffic.json` recorded requests and answers. Nothing in
a released folder is ever edited. `make release` adds the
version that `api/v1/__init__.py` names."""

from pathlib import Path

MUSEUM = Path(__file__).parent
CURRENT = MUSEUM.parents[1] / "api" / "v1" / "openapi.json"
RELEASES = sorted(
    (path.parent for path in MUSEUM.glob("*/contract.json")), key=lambda path: [int(n) for n in path.name.split(".")]
)
