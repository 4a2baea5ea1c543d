"""One page says what an account consists of, and leaves nothing out."""

from dataclasses import fields

from allauth.account.models import EmailAddress, EmailConfirmation
from django.apps import apps
from django.db.models import ForeignKey, Model

from accounts.models import User
from accounts.services.account import lifecycle
from accounts.services.account.lifecycle import Because, Part

# allauth's own tables stay empty: User.email is the one address.
NOT_OURS: frozenset[type[Model]] = frozenset({EmailAddress, EmailConfirmation})


def reached() -> set[type[Model]]:
    """Every model with a path to User over foreign keys."""
    found: set[type[Model]] = {User}
    size = 0
    while size < len(found):
        size = len(found)
        found |= {model for model in apps.get_models() if found & {field.related_model for field in keys(model)}}
    return found - NOT_OURS


def keys(model: type[Model]) -> list[ForeignKey[Model, Model]]:
    return [field for field in model._meta.get_fields() if isinstance(field, ForeignKey)]


def test_every_model_that_leads_to_a_user_belongs_to_one_part() -> None:
    owned = [model for part in lifecycle.PARTS for model in part.models]
    assert sorted(model.__name__ for model in owned) == sorted(model.__name__ for model in reached())


def test_a_part_that_does_nothing_at_a_moment_says_why() -> None:
    moments = [field.name for field in fields(Part) if field.name not in {"name", "models"}]
    silent = [
        f"{part.name}: {moment}"
        for part in lifecycle.PARTS
        for moment in moments
        if isinstance(does := getattr(part, moment), Because) and len(does) < 15
    ]
    assert silent == []


def test_allauth_keeps_no_address_of_anybody(alice: User) -> None:
    assert not EmailAddress.objects.exists()
