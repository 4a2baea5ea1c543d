"""Rows in statements of our own, on the paths where the ORM would need several. The columns are the model's."""

from collections.abc import Iterable
from typing import Any

from django.db import connection
from django.db.models import Field, Model


def _fields(model: type[Model] | Model) -> "Iterable[Field[Any, Any]]":
    return model._meta.concrete_fields  # noqa: SLF001 - a documented API of Django's


def names(model: type[Model]) -> list[str]:
    """For `Model.from_db`, in the order of `columns`."""
    return [field.attname for field in _fields(model)]


def columns(model: type[Model]) -> str:
    return ", ".join(str(field.column) for field in _fields(model))


def places(model: type[Model], prefix: str) -> str:
    """The placeholders for what `values` gives, in the order of `columns`."""
    return ", ".join(f"%({prefix}_{name})s" for name in names(model))


def values(row: Model, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}_{field.attname}": field.get_db_prep_save(getattr(row, field.attname), connection)
        for field in _fields(row)
    }
