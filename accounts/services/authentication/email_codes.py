"""Checks an emailed code for the user with this username or address."""

from uuid import UUID

from accounts.caller import Caller
from accounts.errors import InvalidCode
from accounts.lib import sealing
from accounts.models import Challenge
from accounts.services.credentials import challenges, identifiers
from accounts.services.security import rate_limits


def match_code(kind: Challenge.Kind, *, login: str, code: str, caller: Caller) -> Challenge:
    """The open challenge of the user that this name means and the code belongs to. A try is spent; twenty wrong ones a
    day lock the account's codes. Raises InvalidCode, RateLimited."""
    rate_limits.count_address("code_per_ip", caller=caller)
    given = challenges.read_code(code)
    folded = identifiers.fold_login(login)
    user = identifiers.find(folded)
    subject = user.id if user else folded
    if not rate_limits.spend("wrong_code_per_account", subject).allowed:
        raise InvalidCode("the account's codes are locked for today")
    # For nobody the same statements run, with an id that nobody has: one for each name, as for somebody.
    user_id = user.id if user else UUID(bytes=sealing.mac("nobody", folded.encode())[:16])
    challenge = challenges.match_code(kind, given, caller=caller, user_id=user_id)
    rate_limits.refund("wrong_code_per_account", subject)
    return challenge
