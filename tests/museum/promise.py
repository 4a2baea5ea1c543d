"""What an app that was built for a released contract may rely on, held against a newer contract.

Direction decides: of what an app sends, nothing that was taken may be refused; of what it gets, everything that was
said must still hold. New operations, new fields in answers and new optional fields in requests are no breaks.
(docs/decisions/versions.md says why this is no library's work.)"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

# Formats that clients read as text all the same: one that is said later breaks nobody.
OF_TEXT = {"email", "idn-email", "uri"}
# What every release refused by a rule, and the shape says since 1.3.0 (tests/api/v1/test_examples.py tries each).
SAID_LATER: dict[str, Schema] = {
    "username": {"minLength": 2, "maxLength": 30},
    "email": {"maxLength": 254},
    "first_name": {"maxLength": 80},
    "last_name": {"maxLength": 80},
    "name": {"minLength": 1, "maxLength": 60},
    "size": {"minimum": 1},
}
# Each bound, and what holds where a schema has none.
UPPER = {"maxLength": math.inf, "maximum": math.inf, "maxItems": math.inf}
LOWER = {"minLength": 0, "minimum": -math.inf, "minItems": 0}


@dataclass(frozen=True)
class Contract:
    document: Schema

    def operations(self) -> dict[str, Schema]:
        return {
            f"{method.upper()} {path}": operation
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def resolve(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Schema = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
        return schema

    def plain(self, schema: Schema) -> Schema:
        """`anyOf: [x, null]` and `allOf: [x]` as one schema whose `type` is a set of names."""
        schema = self.resolve(schema)
        for part in schema.get("allOf", []):
            schema = {**schema, **self.resolve(part)}
        choices = [self.resolve(choice) for choice in schema.get("anyOf", [])]
        real = [choice for choice in choices if choice.get("type") != "null"]
        if len(real) == 1:
            schema = {**schema, **self.resolve(real[0])}
        named = schema.get("type", "")
        types = {named} if isinstance(named, str) else set(named)
        if len(real) < len(choices):
            types.add("null")
        return {**schema, "type": types}


def breaks(old: Schema, new: Schema) -> list[str]:
    """One line for each promise of `old` that `new` does not keep: where, and what."""
    return list(_Comparison(Contract(old), Contract(new)).all())


@dataclass(frozen=True)
class _Comparison:
    old: Contract
    new: Contract

    def all(self) -> Iterator[str]:
        now = self.new.operations()
        for name, operation in self.old.operations().items():
            if name not in now:
                yield f"{name}: the operation is gone"
            else:
                yield from self._operation(name, operation, now[name])

    def _operation(self, name: str, old: Schema, new: Schema) -> Iterator[str]:
        if old.get("operationId") != new.get("operationId"):
            yield f"{name}: operationId {old.get('operationId')} became {new.get('operationId')}"
        if new.get("security") and not old.get("security"):
            yield f"{name}: it asks for a token now"
        yield from self._parameters(name, old.get("parameters", []), new.get("parameters", []))
        yield from self._body(name, old.get("requestBody"), new.get("requestBody"))
        yield from self._answers(name, old["responses"], new["responses"])

    def _parameters(self, name: str, old: list[Schema], new: list[Schema]) -> Iterator[str]:
        before = {(item["in"], item["name"]): item for item in old}
        after = {(item["in"], item["name"]): item for item in new}
        for key, item in before.items():
            where = f"{name} ?{key[1]}"
            if key not in after:
                yield f"{where}: the parameter is gone"
                continue
            if after[key].get("required") and not item.get("required"):
                yield f"{where}: the parameter became required"
            yield from self._request(where, item["schema"], after[key]["schema"])
        for key, item in after.items():
            if key not in before and item.get("required"):
                yield f"{name} ?{key[1]}: a new parameter is required"

    def _body(self, name: str, old: Schema | None, new: Schema | None) -> Iterator[str]:
        if old is None or new is None:
            if old is not None:
                yield f"{name}: it takes no body any more"
            elif new is not None and new.get("required"):
                yield f"{name}: it needs a body now"
            return
        if new.get("required") and not old.get("required"):
            yield f"{name}: the body became required"
        for kind, content in old["content"].items():
            if kind not in new["content"]:
                yield f"{name}: {kind} is not taken any more"
            else:
                yield from self._request(f"{name} request", content["schema"], new["content"][kind]["schema"])

    def _answers(self, name: str, old: Schema, new: Schema) -> Iterator[str]:
        for status, answer in old.items():
            where = f"{name} {status}"
            if status not in new:
                # An error that can't happen any more hurts nobody.
                if int(status) < 400:
                    yield f"{where}: the answer is gone"
                continue
            before, after = answer.get("content") or {}, new[status].get("content") or {}
            if set(before) - set(after):
                yield f"{where}: it is not {', '.join(sorted(set(before) - set(after)))} any more"
            for kind in set(before) & set(after):
                yield from self._answer(where, before[kind]["schema"], after[kind]["schema"])
        for status in new:
            # 304 answers an If-None-Match, which no app sends that does not know it.
            if status not in old and status != "304" and int(status) < 400:
                yield f"{name} {status}: an answer that apps do not know"

    # --- Shapes ---

    def _request(self, where: str, old: Schema, new: Schema, depth: int = 0) -> Iterator[str]:
        before, after = self.old.plain(old), self.new.plain(new)
        if before["type"] - after["type"]:
            yield f"{where}: {_names(before['type'])} became {_names(after['type'])}"
            return
        yield from _tighter(where, before, after)
        fields, now = before.get("properties", {}), after.get("properties", {})
        for field in set(after.get("required", [])) - set(before.get("required", [])):
            yield f"{where}.{field}: the field became required"
        for field, schema in fields.items():
            if field not in now:
                yield f"{where}.{field}: the field is not taken any more"
            elif depth < _DEEPEST:
                yield from self._request(f"{where}.{field}", schema, now[field], depth + 1)
        if "items" in before and "items" in after and depth < _DEEPEST:
            yield from self._request(f"{where}[]", before["items"], after["items"], depth + 1)

    def _answer(self, where: str, old: Schema, new: Schema, depth: int = 0) -> Iterator[str]:
        before, after = self.old.plain(old), self.new.plain(new)
        if after["type"] - before["type"]:
            yield f"{where}: {_names(before['type'])} became {_names(after['type'])}"
            return
        if before.get("format") != after.get("format") and ("format" in before or after["format"] not in OF_TEXT):
            yield f"{where}: format {before.get('format')} became {after.get('format')}"
        if _values(before) and (unknown := (_values(after) or {"any other value"}) - _values(before)):
            yield f"{where}: {', '.join(sorted(unknown))} is nothing that apps know"
        fields, now = before.get("properties", {}), after.get("properties", {})
        for field, schema in fields.items():
            if field not in now:
                yield f"{where}.{field}: the field is gone"
                continue
            if field in before.get("required", []) and field not in after.get("required", []):
                yield f"{where}.{field}: the field may be missing now"
            if depth < _DEEPEST:
                yield from self._answer(f"{where}.{field}", schema, now[field], depth + 1)
        for keyword in ("items", "additionalProperties"):
            inner = before.get(keyword), after.get(keyword)
            if isinstance(inner[0], dict) and isinstance(inner[1], dict) and depth < _DEEPEST:
                yield from self._answer(f"{where}[]", inner[0], inner[1], depth + 1)


_DEEPEST = 12  # the contract has no shape that holds itself; this is for one that would


def _tighter(where: str, old: Schema, new: Schema) -> Iterator[str]:
    new = {key: value for key, value in new.items() if SAID_LATER.get(where.rpartition(".")[2], {}).get(key) != value}
    for bound, none in UPPER.items():
        if new.get(bound, none) < old.get(bound, none):
            yield f"{where}: {bound} {old.get(bound, 'none')} became {new[bound]}"
    for bound, none in LOWER.items():
        if new.get(bound, none) > old.get(bound, none):
            yield f"{where}: {bound} {old.get(bound, 'none')} became {new[bound]}"
    for keyword in ("pattern", "format"):
        if keyword in new and new[keyword] != old.get(keyword) and (keyword in old or new[keyword] not in OF_TEXT):
            yield f"{where}: {keyword} {old.get(keyword, 'none')} became {new[keyword]}"
    if "default" in old and new.get("default") != old["default"]:
        yield f"{where}: left out, it meant {old['default']!r} and means {new.get('default')!r} now"
    if _values(new) and (refused := (_values(old) or {"any other value"}) - _values(new)):
        yield f"{where}: {', '.join(sorted(refused))} is not taken any more"


def _values(schema: Schema) -> set[str]:
    fixed = [schema["const"]] if "const" in schema else []
    return {str(value) for value in schema.get("enum", fixed)}


def _names(types: set[str]) -> str:
    return " or ".join(sorted(types)) or "anything"
