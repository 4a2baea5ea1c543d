"""The drills take the servers of the running service away and kill its processes."""

import os

# Seconds for an answer: one is promised, and DRILL_ALONE=1 asks for it. Beside the other lanes of the suite the machine
# itself may be late, so nothing is measured there; an answer that waits for a server which is away does not come at all
# (EMAIL_TIMEOUT of the web process).
PROMPT = 1.0 if "DRILL_ALONE" in os.environ else 600.0
