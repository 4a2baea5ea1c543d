from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from accounts import errors
from accounts.http import caller
from accounts.services.account import email_addresses, email_recovery, signup
from accounts.services.sessions.sessions import SignedIn
from api.repeats import repeatable
from api.v1 import schemas
from api.v1.responses import BODY, KEY, PROOF, answers

router = Router(tags=["sign up"])


@router.post(
    "/signup",
    operation_id="signUp",
    **answers(
        {201: schemas.SignedInOut, 202: schemas.AcceptedOut},
        *BODY,
        *KEY,
        errors.SignUpClosed,
        errors.UsernameTaken,
        errors.ChallengeRequired,
        errors.RateLimited,
        errors.Overloaded,
        extra=PROOF,
    ),
)
@repeatable
def sign_up(request: HttpRequest, payload: schemas.SignUpIn) -> Status[Any]:
    """Create an account and sign in.

    The address stays unverified until `confirmMyEmail`. The answer does not tell whether another account has verified
    it. If `email_verification` in the config is `mandatory`, the answer is 202, and tokens come with `confirmEmail`."""
    fields = payload.model_dump(exclude={"device"})
    found = signup.sign_up_app(caller=caller(request, schemas.device(payload.device)), **fields)
    if found is None:
        return Status(202, {"detail": _("Enter the code we emailed you.")})
    return Status(201, found)


@router.post(
    "/email/confirm",
    operation_id="confirmEmail",
    **answers(
        {200: schemas.SignedInOut},
        *BODY,
        *KEY,
        errors.InvalidCode,
        errors.InvalidKey,
        errors.MfaRequired,
        errors.AccountDisabled,
        errors.RateLimited,
    ),
)
@repeatable
def confirm_email(request: HttpRequest, payload: schemas.ConfirmEmailIn) -> SignedIn:
    """Verify the address of a sign-up and sign in.

    With the emailed code, or with the `key` of the link that opened the app."""
    where = caller(request, schemas.device(payload.device))
    if payload.key:
        return email_addresses.confirm_by_key_and_sign_in(key=payload.key, caller=where)
    return email_addresses.confirm_and_sign_in(email=payload.email, code=payload.code, caller=where)


@router.post(
    "/email/undo",
    operation_id="undoEmailChange",
    **answers({200: schemas.UndoneOut}, *BODY, *KEY, errors.InvalidKey, errors.EmailInUse, errors.RateLimited),
)
@repeatable
def undo_email_change(request: HttpRequest, payload: schemas.KeyIn) -> dict[str, Any]:
    """Undo a change of address.

    With the link that was emailed to the earlier address. That address is restored, every session ends and the
    password stops working: set a new one at once (`resetPassword`)."""
    found = email_recovery.undo(key=payload.key, caller=caller(request))
    return {"username": found.user.username, "reset_key": found.reset_key}


@router.post(
    "/email/resend",
    operation_id="resendConfirmation",
    **answers({202: schemas.AcceptedOut}, *BODY, errors.RateLimited),
)
def resend_confirmation(request: HttpRequest, payload: schemas.EmailIn) -> Status[Any]:
    """Email the verification code again.

    If an account waits for it. The answer is the same if none does."""
    email_addresses.resend(email=payload.email, caller=caller(request))
    return Status(202, {"detail": _("If that address still needs confirming, a new email is on its way.")})
