from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from accounts import errors
from accounts.http import AuthenticatedRequest, caller
from accounts.services import mail
from accounts.services.account import password_resets, passwords
from api.repeats import repeatable
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, KEY, PASSWORD, PROOF, TOKEN, answers

router = Router(tags=["password"])


@router.post(
    "/password/forgot",
    operation_id="requestPasswordReset",
    **answers({202: schemas.MailOut}, *BODY, *KEY, errors.ChallengeRequired, errors.RateLimited, extra=PROOF),
)
@repeatable
def request_password_reset(request: HttpRequest, payload: schemas.LoginIn) -> Status[Any]:
    """Email a code and a link to set a new password.

    To the address of this account, if there is one. The answer is the same if there is none."""
    password_resets.request_reset(login=payload.login, caller=caller(request))
    words = _("If that account exists, an email with a code is on its way.")
    return Status(202, {"detail": words, "mail_delay": int(mail.delay().total_seconds())})


@router.post(
    "/password/reset",
    operation_id="resetPassword",
    **answers({204: None}, *BODY, *KEY, errors.InvalidCode, errors.InvalidKey, errors.RateLimited, errors.Overloaded),
)
@repeatable
def reset_password(request: HttpRequest, payload: schemas.ResetPasswordIn) -> Status[None]:
    """Set a new password.

    With the emailed code and the login that it was requested for, or with the `key` of the link that opened the app.
    Every session of the user ends."""
    if payload.key:
        password_resets.reset_by_key(key=payload.key, new_password=payload.new_password, caller=caller(request))
    else:
        password_resets.reset_by_code(
            login=payload.login, code=payload.code, new_password=payload.new_password, caller=caller(request)
        )
    return Status(204, None)


@router.post(
    "/me/password",
    operation_id="changePassword",
    auth=AccessToken(),
    **answers({204: None}, *TOKEN, *BODY, *KEY, *PASSWORD, errors.RecentSignInNeeded),
)
@repeatable
def change_password(request: AuthenticatedRequest, payload: schemas.ChangePasswordIn) -> Status[None]:
    """Change the password.

    All other sessions end; this one goes on. An account without a password sets its first one, within 10 minutes after
    this device signed in."""
    keep = request.user_session.id
    passwords.change(user=request.user, keep=keep, caller=caller(request), **payload.model_dump())
    return Status(204, None)
