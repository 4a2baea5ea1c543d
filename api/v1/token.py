from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from accounts import errors
from accounts.http import caller
from accounts.services import mail
from accounts.services.account import sign_in_codes
from accounts.services.authentication import sign_in
from accounts.services.sessions import sessions
from accounts.services.sessions.sessions import SignedIn, Tokens
from api.repeats import repeatable
from api.v1 import schemas
from api.v1.responses import BODY, KEY, PROOF, answers

router = Router(tags=["tokens"])


@router.post(
    "/token",
    operation_id="signIn",
    **answers(
        {200: schemas.SignedInOut},
        *BODY,
        *KEY,
        errors.InvalidCredentials,
        errors.MfaRequired,
        errors.SessionRevoked,
        errors.AccountDisabled,
        errors.EmailNotVerified,
        errors.RateLimited,
        errors.Overloaded,
    ),
)
@repeatable
def sign_in_by_password(request: HttpRequest, payload: schemas.SignInIn) -> SignedIn:
    """Sign in with a password.

    By username or email address. If the person has turned on MFA, the answer is `mfa_required` with a `ticket` for
    `finishSignIn`."""
    where = caller(request, schemas.device(payload.device))
    return sign_in.sign_in_app(login=payload.login, password=payload.password, caller=where)


@router.post(
    "/token/code/request",
    operation_id="requestSignInCode",
    **answers(
        {202: schemas.MailOut},
        *BODY,
        errors.CodeSignInClosed,
        errors.ChallengeRequired,
        errors.RateLimited,
        extra=PROOF,
    ),
)
def request_sign_in_code(request: HttpRequest, payload: schemas.LoginIn) -> Status[Any]:
    """Email a code to sign in with.

    To the address of this account, if there is one. The answer is the same if there is none."""
    sign_in_codes.request(login=payload.login, caller=caller(request))
    words = _("If that account exists, an email with a code is on its way.")
    return Status(202, {"detail": words, "mail_delay": int(mail.delay().total_seconds())})


@router.post(
    "/token/code",
    operation_id="signInByCode",
    **answers(
        {200: schemas.SignedInOut},
        *BODY,
        *KEY,
        errors.InvalidCode,
        errors.MfaRequired,
        errors.CodeSignInClosed,
        errors.AccountDisabled,
        errors.RateLimited,
    ),
)
@repeatable
def sign_in_by_code(request: HttpRequest, payload: schemas.SignInByCodeIn) -> SignedIn:
    """Sign in with an emailed code.

    The code is from `requestSignInCode`."""
    where = caller(request, schemas.device(payload.device))
    return sign_in_codes.sign_in_app(login=payload.login, code=payload.code, caller=where)


@router.post(
    "/token/refresh",
    operation_id="refreshTokens",
    **answers(
        {200: schemas.TokensOut},
        *BODY,
        errors.SessionRevoked,
        errors.RefreshExpired,
        errors.RefreshReused,
        errors.RateLimited,
    ),
)
def refresh_tokens(request: HttpRequest, payload: schemas.RefreshTokenIn) -> Tokens:
    """Get new tokens.

    The one successor of this refresh token, and a new access token. If an answer was lost, send the same token again:
    the refresh token in the answer is the same until it is used, and for a minute after that. Later, the same token
    again means that somebody has a copy: the session ends (`refresh_reused`)."""
    return sessions.refresh(refresh_token=payload.refresh_token, caller=caller(request))


@router.post("/token/revoke", operation_id="signOut", **answers({204: None}, *BODY))
def sign_out(request: HttpRequest, payload: schemas.RefreshTokenIn) -> Status[None]:
    """Sign this device out.

    Ends the session of this refresh token. 204 the second time too."""
    sessions.sign_out(refresh_token=payload.refresh_token, caller=caller(request))
    return Status(204, None)
