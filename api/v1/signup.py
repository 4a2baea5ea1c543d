from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from accounts.http import caller
from accounts.services.account import email_addresses, email_recovery, signup
from accounts.services.sessions.sessions import SignedIn
from api.repeats import repeatable
from api.v1 import schemas
from api.v1.responses import BODY, responses

router = Router(tags=["sign up"])


@router.post(
    "/signup",
    operation_id="signUp",
    response=responses({201: schemas.SignedInOut, 202: schemas.AcceptedOut}, *BODY, 403, 409, 429, 503),
)
@repeatable
def sign_up(request: HttpRequest, payload: schemas.SignUpIn) -> Status[Any]:
    """Make an account and sign in. The address is a claim until it is proved (`confirmMyEmail`); whether somebody
    else owns it, the answer does not tell. 202 where the address must be proved first: tokens then come with
    `confirmEmail`."""
    fields = payload.model_dump(exclude={"device"})
    found = signup.sign_up_app(caller=caller(request, schemas.device(payload.device)), **fields)
    if found is None:
        return Status(202, {"detail": _("Enter the code we emailed you.")})
    return Status(201, found)


@router.post(
    "/email/confirm",
    operation_id="confirmEmail",
    response=responses({200: schemas.SignedInOut}, *BODY, 401, 403, 409, 429),
)
@repeatable
def confirm_email(request: HttpRequest, payload: schemas.ConfirmEmailIn) -> SignedIn:
    """Prove the address of a sign-up with the mailed code, or with the key of the link that opened the app, and sign
    in."""
    where = caller(request, schemas.device(payload.device))
    if payload.key:
        return email_addresses.confirm_by_key_and_sign_in(key=payload.key, caller=where)
    return email_addresses.confirm_and_sign_in(email=payload.email, code=payload.code, caller=where)


@router.post(
    "/email/undo", operation_id="undoEmailChange", response=responses({200: schemas.UndoneOut}, *BODY, 409, 429)
)
@repeatable
def undo_email_change(request: HttpRequest, payload: schemas.KeyIn) -> dict[str, Any]:
    """Take a change of address back, with the link that went to the earlier one: the address is restored, every
    session ends and the password opens nothing any more. Ask for a new one at once (`resetPassword`)."""
    found = email_recovery.undo(key=payload.key, caller=caller(request))
    return {"username": found.user.username, "reset_key": found.reset_key}


@router.post(
    "/email/resend", operation_id="resendConfirmation", response=responses({202: schemas.AcceptedOut}, *BODY, 429)
)
def resend_confirmation(request: HttpRequest, payload: schemas.EmailIn) -> Status[Any]:
    """Mail the code once more, if anybody waits for it."""
    email_addresses.resend(email=payload.email, caller=caller(request))
    return Status(202, {"detail": _("If that address still needs confirming, a new email is on its way.")})
