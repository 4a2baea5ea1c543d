"""What ninja leaves out of the document: summaries, codes, headers and examples."""

import json
from typing import Any

from django.utils import translation

from api.catalogue import ACTIONS
from api.errors import CASES, example
from api.v1.schemas import ProblemOut

REFUSALS = "x-refusals"  # what an operation brings along, by status; it stands in no document
_KINDS = {kind.code: kind for kind in CASES}
# Of answers. What an app may send is in the description of the document (api/v1/__init__.py).
_HEADERS = {
    "X-Request-Id": "The id of the request: yours if you sent one (64 letters, digits, `.`, `_` or `-` at most).",
    "Deprecation": "Once this version is deprecated: since when (RFC 9745). `Sunset` says when it ends, and `Link` "
    "what follows it.",
    "Retry-After": "Seconds to wait, as `retry_after` in the body.",
    "WWW-Authenticate": "Bearer, and what is wrong with the access token (RFC 6750).",
    "RateLimit": "The limit that was met, and when it opens again (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit-Policy": "The same limit: how many tries in how many seconds.",
    "ETag": "The version of the profile, for `If-Match` of a later `updateProfile`, and for `If-None-Match`.",
}
_ALSO = {
    401: ["WWW-Authenticate"],
    429: ["Retry-After", "RateLimit", "RateLimit-Policy"],
    503: ["Retry-After"],
}


def headers(*names: str) -> dict[str, Any]:
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def complete(schema: dict[str, Any]) -> None:
    """Ninja's document, as it is served and generated from."""
    types = schema["components"]["schemas"]
    schema["components"]["headers"] = {
        name: {"description": words, "schema": {"type": "string"}} for name, words in _HEADERS.items()
    }
    # ninja takes query schemas apart and leaves their types, which nothing uses.
    used = json.dumps(schema, default=str)
    for name in [name for name in types if f'"#/components/schemas/{name}"' not in used]:
        del types[name]
    problem = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
    types |= problem.pop("$defs")
    types["ProblemOut"] = problem
    for shape in types.values():
        for field in shape.get("properties", {}).values():
            field.pop("title", None)  # its name once more
            # Generated clients send the default of a body's field: a PATCH of one name would empty the other.
            field.pop("default", None)
            if len(field.get("allOf", ())) == 1:  # how ninja puts a default beside a name
                field.update(field.pop("allOf")[0])
    schema["info"]["description"] += _actions()
    used_codes: set[str] = set()
    for operations in schema["paths"].values():
        for operation in operations.values():
            used_codes |= _describe(operation, types)
    schema["components"]["examples"] = {code: {"value": example(_KINDS[code])} for code in sorted(used_codes)}


def _actions() -> str:
    with translation.override("en"):
        rows = "\n".join(f"| `{action}` | {words} |" for action, words in ACTIONS.items())
    return f"\n**What an app does about a refusal**\n\n| `action` | what it means |\n|---|---|\n{rows}\n"


def _describe(operation: dict[str, Any], types: dict[str, Any]) -> set[str]:
    """The docstring's first line is the summary. A refusal is a problem with its codes; all else has an example. The
    codes."""
    summary, _, rest = operation["description"].partition("\n\n")
    # Redoc shows no operation's name, and the texts name others.
    words = f"`{operation['operationId']}`\n\n{rest or summary}"
    operation |= {"summary": summary.rstrip("."), "description": words}
    _exemplify(operation.get("requestBody", {}), types)
    refusals: dict[int, list[str]] = operation.pop(REFUSALS)
    for status, response in operation["responses"].items():
        if int(status) < 400:
            response.update(headers("X-Request-Id", "Deprecation", *response.get("headers", ())))
            _exemplify(response, types)
            continue
        codes = refusals[int(status)]
        response["description"] += f": {', '.join(f'`{code}`' for code in codes)}"
        shown = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
        response["content"] = {"application/problem+json": {"schema": _PROBLEM, "examples": shown}}
        response.update(headers("X-Request-Id", *_ALSO.get(int(status), ())) | {"x-codes": codes})
    return {code for codes in refusals.values() for code in codes}


_PROBLEM = {"$ref": "#/components/schemas/ProblemOut"}


def _exemplify(message: dict[str, Any], types: dict[str, Any]) -> None:
    if media := message.get("content", {}).get("application/json"):
        media["example"] = _examples(media["schema"], types)[0]


def _examples(schema: dict[str, Any], types: dict[str, Any]) -> list[Any]:
    """One or none. That of an object is made of those of its fields; a field without one is left out."""
    if "examples" in schema:
        return list(schema["examples"][:1])
    if "$ref" in schema:
        return _examples(types[schema["$ref"].rpartition("/")[2]], types)
    if "anyOf" in schema:
        return next(filter(None, (_examples(branch, types) for branch in schema["anyOf"])), [])
    if "items" in schema:
        return [_examples(schema["items"], types)]
    if "properties" in schema:
        found = {name: _examples(field, types) for name, field in schema["properties"].items()}
        return [{name: examples[0] for name, examples in found.items() if examples}]
    return [schema["const"]] if "const" in schema else schema.get("enum", [])[:1]
