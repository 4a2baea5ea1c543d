from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Status

from accounts import errors
from accounts.http import AuthenticatedRequest, caller
from accounts.models import Passkey
from accounts.services.authentication import identities, passkeys, reauthentication, sign_in, totp
from accounts.services.sessions.sessions import SignedIn
from api.repeats import repeatable
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, KEY, PASSWORD, PROVIDER, RECENT, TOKEN, answers

entrance = Router(tags=["tokens"])
router = Router(tags=["second factors"], auth=AccessToken())

# --- Signing in ---------------------------------------------------------------------------------------------


@entrance.post(
    "/token/mfa",
    operation_id="finishSignIn",
    **answers(
        {200: schemas.SignedInOut},
        *BODY,
        *KEY,
        errors.InvalidTicket,
        errors.InvalidCode,
        errors.AccountDisabled,
        errors.EmailNotVerified,
        errors.RateLimited,
    ),
)
@repeatable
def finish_sign_in(request: HttpRequest, payload: schemas.SecondStepIn) -> SignedIn:
    """Finish a sign-in with MFA.

    After `mfa_required`: with a code from the authenticator app, or a recovery code."""
    where = caller(request, schemas.device(payload.device))
    return sign_in.finish(ticket=payload.ticket, code=payload.code, caller=where)


@entrance.post("/token/passkey/begin", operation_id="beginPasskeySignIn", **answers({200: schemas.CeremonyOut}))
def begin_passkey_sign_in(request: HttpRequest) -> passkeys.Ceremony:
    """Begin a sign-in with a passkey.

    The answer is what the credential manager needs to offer one."""
    return passkeys.begin_sign_in()


@entrance.post(
    "/token/passkey/finish",
    operation_id="finishPasskeySignIn",
    **answers(
        {200: schemas.SignedInOut},
        *BODY,
        *KEY,
        errors.InvalidTicket,
        errors.InvalidPasskey,
        errors.AccountDisabled,
        errors.EmailNotVerified,
        errors.RateLimited,
    ),
)
@repeatable
def finish_passkey_sign_in(request: HttpRequest, payload: schemas.PasskeySignInIn) -> SignedIn:
    """Finish a sign-in with a passkey.

    With what the credential manager answered. No second step follows."""
    where = caller(request, schemas.device(payload.device))
    return passkeys.sign_in_app(state=payload.state, credential=payload.credential, caller=where)


# --- Setting up ---------------------------------------------------------------------------------------------


@router.post(
    "/me/reauthenticate",
    operation_id="reauthenticate",
    **answers({204: None}, *TOKEN, *BODY, *PASSWORD, *PROVIDER, errors.InvalidCode),
)
def reauthenticate(request: AuthenticatedRequest, payload: schemas.ReauthenticateIn) -> Status[None]:
    """Enter the password again, or sign in with a provider again.

    After `recent_sign_in_needed`; good for 10 minutes. After `mfa_required`, with a code of the second factor too. The
    person must have signed in at the provider in the last 10 minutes (`max_age=0`). If the ID token doesn't say when
    (`auth_time`), it must be at most 2 minutes old."""
    mine: dict[str, Any] = {"user": request.user, "session": request.user_session, "caller": caller(request)}
    if payload.provider:
        identities.reauthenticate(**payload.model_dump(exclude={"password"}), **mine)
    else:
        reauthentication.reauthenticate(**payload.model_dump(include={"password", "code"}), **mine)
    return Status(204, None)


@router.get("/me/mfa", operation_id="getMfa", **answers({200: schemas.MfaOut}, *TOKEN))
def get_mfa(request: AuthenticatedRequest) -> totp.Factors:
    """Get the second factors.

    Two-step verification, recovery codes and passkeys."""
    return totp.overview(request.user)


@router.post(
    "/me/mfa/totp",
    operation_id="beginTotp",
    **answers({200: schemas.TotpOut}, *TOKEN, *RECENT, errors.EmailNotVerified, errors.MfaIsOn),
)
def begin_totp(request: AuthenticatedRequest) -> totp.Setup:
    """Begin to set up an authenticator app.

    The answer is a secret for it. Nothing changes before `confirmTotp`."""
    return totp.begin(user=request.user, session=request.user_session)


@router.post(
    "/me/mfa/totp/confirm",
    operation_id="confirmTotp",
    **answers(
        {200: schemas.RecoveryCodesOut},
        *TOKEN,
        *BODY,
        *KEY,
        errors.SetupExpired,
        errors.InvalidCode,
        errors.EmailNotVerified,
        errors.MfaIsOn,
        errors.RateLimited,
    ),
)
@repeatable
def confirm_totp(request: AuthenticatedRequest, payload: schemas.ConfirmTotpIn) -> dict[str, Any]:
    """Turn two-step verification on.

    With a code from the authenticator app. The recovery codes are shown only this once."""
    codes = totp.turn_on(
        user=request.user, session=request.user_session, caller=caller(request), **payload.model_dump()
    )
    return {"recovery_codes": codes}


@router.delete("/me/mfa/totp", operation_id="removeTotp", **answers({204: None}, *TOKEN, *RECENT, errors.MfaIsOff))
def remove_totp(request: AuthenticatedRequest) -> Status[None]:
    """Turn two-step verification off.

    The recovery codes are removed too."""
    totp.turn_off(user=request.user, session=request.user_session, caller=caller(request))
    return Status(204, None)


@router.post(
    "/me/mfa/recovery-codes",
    operation_id="makeRecoveryCodes",
    **answers({200: schemas.RecoveryCodesOut}, *TOKEN, *RECENT, errors.MfaIsOff),
)
def make_recovery_codes(request: AuthenticatedRequest) -> dict[str, Any]:
    """Make ten new recovery codes.

    They are shown only this once. The old ones stop working."""
    codes = totp.make_recovery_codes(user=request.user, session=request.user_session, caller=caller(request))
    return {"recovery_codes": codes}


@router.post(
    "/me/mfa/passkeys/begin",
    operation_id="beginPasskey",
    **answers({200: schemas.CeremonyOut}, *TOKEN, *RECENT, errors.EmailNotVerified, errors.TooManyPasskeys),
)
def begin_passkey(request: AuthenticatedRequest) -> passkeys.Ceremony:
    """Begin to add a passkey.

    The answer is what the credential manager needs to create one."""
    return passkeys.begin_adding(user=request.user, session=request.user_session)


@router.post(
    "/me/mfa/passkeys",
    operation_id="addPasskey",
    **answers(
        {201: schemas.PasskeyOut},
        *TOKEN,
        *BODY,
        *KEY,
        errors.SetupExpired,
        errors.InvalidPasskey,
        errors.EmailNotVerified,
        errors.TooManyPasskeys,
    ),
)
@repeatable
def add_passkey(request: AuthenticatedRequest, payload: schemas.AddPasskeyIn) -> Status[Any]:
    """Add a passkey.

    The one that the credential manager created."""
    made = passkeys.add(user=request.user, session=request.user_session, caller=caller(request), **payload.model_dump())
    return Status(201, made)


@router.patch(
    "/me/mfa/passkeys/{passkey_id}",
    operation_id="renamePasskey",
    **answers({200: schemas.PasskeyOut}, *TOKEN, *BODY, errors.PasskeyNotFound),
)
def rename_passkey(request: AuthenticatedRequest, passkey_id: UUID, payload: schemas.RenamePasskeyIn) -> Passkey:
    """Rename a passkey.

    Its owner sees the name in the list of passkeys."""
    return passkeys.rename(user=request.user, passkey_id=passkey_id, name=payload.name, caller=caller(request))


@router.delete(
    "/me/mfa/passkeys/{passkey_id}",
    operation_id="removePasskey",
    **answers({204: None}, *TOKEN, *RECENT, errors.InvalidInput, errors.PasskeyNotFound, errors.LastWayIn),
)
def remove_passkey(request: AuthenticatedRequest, passkey_id: UUID) -> Status[None]:
    """Remove a passkey.

    It no longer signs anyone in. The last way into the account stays."""
    passkeys.remove(user=request.user, session=request.user_session, passkey_id=passkey_id, caller=caller(request))
    return Status(204, None)
