"""The service of tests/e2e, another one of its kind: the drills take its servers away and kill its processes."""

import os

from tests.e2e.conftest import service

__all__ = ["PROMPT", "service"]

# Seconds for an answer. One is promised; beside the other lanes of the suite the machine itself may be late, so there
# it is only less than any server that is waited for would take (10 s). DRILL_ALONE=1 asks for the promise.
PROMPT = 1.0 if "DRILL_ALONE" in os.environ else 5.0
