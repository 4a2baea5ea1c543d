"""What counts as the API's. Known before Django is (project/wsgi.py)."""

import posixpath


def is_under_api(path: str) -> bool:
    """However it is spelled: //api/v1/me, /API/, /./api. What is not answered there is refused in the API's form."""
    return path.startswith("/api/") or f"{posixpath.normpath(path)}/".lstrip("/").casefold().startswith("api/")
