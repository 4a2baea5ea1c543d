"""The service of tests/e2e, another one of its kind: the drills take its servers away and kill its processes."""

from tests.e2e.conftest import service

__all__ = ["service"]
