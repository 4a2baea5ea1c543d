from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Status

from accounts.http import AuthenticatedRequest, caller
from accounts.models import Passkey
from accounts.services.authentication import passkeys, reauthentication, sign_in, totp
from accounts.services.sessions.sessions import SignedIn
from api.repeats import repeatable
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, responses

entrance = Router(tags=["tokens"])
router = Router(tags=["second factors"], auth=AccessToken())

# --- Signing in ---------------------------------------------------------------------------------------------


@entrance.post(
    "/token/mfa", operation_id="finishSignIn", response=responses({200: schemas.SignedInOut}, *BODY, 401, 403, 409, 429)
)
@repeatable
def finish_sign_in(request: HttpRequest, payload: schemas.SecondStepIn) -> SignedIn:
    """Do the second step, after a `mfa_required`: a code of the authenticator app, or a recovery code."""
    where = caller(request, schemas.device(payload.device))
    return sign_in.finish(ticket=payload.ticket, code=payload.code, caller=where)


@entrance.post(
    "/token/passkey/begin", operation_id="beginPasskeySignIn", response=responses({200: schemas.CeremonyOut})
)
def begin_passkey_sign_in(request: HttpRequest) -> passkeys.Ceremony:
    """What the phone's credential manager needs to offer a passkey."""
    return passkeys.begin_sign_in()


@entrance.post(
    "/token/passkey/finish",
    operation_id="finishPasskeySignIn",
    response=responses({200: schemas.SignedInOut}, *BODY, 401, 403, 409, 429),
)
@repeatable
def finish_passkey_sign_in(request: HttpRequest, payload: schemas.PasskeySignInIn) -> SignedIn:
    """Sign in with what the credential manager answered. No second step follows."""
    where = caller(request, schemas.device(payload.device))
    return passkeys.sign_in_app(state=payload.state, credential=payload.credential, caller=where)


# --- Setting up ---------------------------------------------------------------------------------------------


@router.post(
    "/me/reauthenticate", operation_id="reauthenticate", response=responses({204: None}, *BODY, 401, 403, 429, 503)
)
def reauthenticate(request: AuthenticatedRequest, payload: schemas.ReauthenticateIn) -> Status[None]:
    """Give the password once more, where an operation answers `recent_sign_in_needed`; good for 10 minutes. Where it
    answers `mfa_required`, with a code of the second step."""
    reauthentication.reauthenticate(
        user=request.user, session=request.user_session, caller=caller(request), **payload.model_dump()
    )
    return Status(204, None)


@router.get("/me/mfa", operation_id="getMfa", response=responses({200: schemas.MfaOut}, 401))
def get_mfa(request: AuthenticatedRequest) -> totp.Factors:
    """Two-step verification, recovery codes and passkeys."""
    return totp.overview(request.user)


@router.post("/me/mfa/totp", operation_id="beginTotp", response=responses({200: schemas.TotpOut}, 401, 403, 409))
def begin_totp(request: AuthenticatedRequest) -> totp.Setup:
    """A secret for an authenticator app. Nothing changes before `confirmTotp`."""
    return totp.begin(user=request.user, session=request.user_session)


@router.post(
    "/me/mfa/totp/confirm",
    operation_id="confirmTotp",
    response=responses({200: schemas.RecoveryCodesOut}, *BODY, 401, 403, 409, 429),
)
@repeatable
def confirm_totp(request: AuthenticatedRequest, payload: schemas.ConfirmTotpIn) -> dict[str, Any]:
    """Turn two-step verification on, with a code that the app shows. The recovery codes are shown this once."""
    codes = totp.turn_on(
        user=request.user, session=request.user_session, caller=caller(request), **payload.model_dump()
    )
    return {"recovery_codes": codes}


@router.delete("/me/mfa/totp", operation_id="removeTotp", response=responses({204: None}, 401, 403, 409))
def remove_totp(request: AuthenticatedRequest) -> Status[None]:
    """Turn two-step verification off. The recovery codes go too."""
    totp.turn_off(user=request.user, session=request.user_session, caller=caller(request))
    return Status(204, None)


@router.post(
    "/me/mfa/recovery-codes",
    operation_id="makeRecoveryCodes",
    response=responses({200: schemas.RecoveryCodesOut}, 401, 403, 409),
)
def make_recovery_codes(request: AuthenticatedRequest) -> dict[str, Any]:
    """Ten new recovery codes, shown this once; the old ones are void."""
    codes = totp.make_recovery_codes(user=request.user, session=request.user_session, caller=caller(request))
    return {"recovery_codes": codes}


@router.post(
    "/me/mfa/passkeys/begin",
    operation_id="beginPasskey",
    response=responses({200: schemas.CeremonyOut}, 401, 403, 409),
)
def begin_passkey(request: AuthenticatedRequest) -> passkeys.Ceremony:
    """What the phone's credential manager needs to make a passkey."""
    return passkeys.begin_adding(user=request.user, session=request.user_session)


@router.post(
    "/me/mfa/passkeys", operation_id="addPasskey", response=responses({201: schemas.PasskeyOut}, *BODY, 401, 403, 409)
)
@repeatable
def add_passkey(request: AuthenticatedRequest, payload: schemas.AddPasskeyIn) -> Status[Any]:
    """Keep the passkey that the credential manager made."""
    made = passkeys.add(user=request.user, session=request.user_session, caller=caller(request), **payload.model_dump())
    return Status(201, made)


@router.patch(
    "/me/mfa/passkeys/{passkey_id}",
    operation_id="renamePasskey",
    response=responses({200: schemas.PasskeyOut}, *BODY, 401, 404),
)
def rename_passkey(request: AuthenticatedRequest, passkey_id: UUID, payload: schemas.RenamePasskeyIn) -> Passkey:
    """Give a passkey another name."""
    return passkeys.rename(user=request.user, passkey_id=passkey_id, name=payload.name, caller=caller(request))


@router.delete(
    "/me/mfa/passkeys/{passkey_id}",
    operation_id="removePasskey",
    response=responses({204: None}, 401, 403, 404, 409, 422),
)
def remove_passkey(request: AuthenticatedRequest, passkey_id: UUID) -> Status[None]:
    """Remove a passkey: it signs nobody in any more. The last way into the account stays."""
    passkeys.remove(user=request.user, session=request.user_session, passkey_id=passkey_id, caller=caller(request))
    return Status(204, None)
