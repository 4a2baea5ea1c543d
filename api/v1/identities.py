from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from accounts import errors
from accounts.http import AuthenticatedRequest, caller
from accounts.models import Identity
from accounts.services.account import federation
from accounts.services.authentication import identities
from accounts.services.sessions.sessions import SignedIn
from api.repeats import repeatable
from api.security import AccessToken
from api.v1 import schemas
from api.v1.responses import BODY, KEY, PROVIDER, RECENT, TOKEN, answers

entrance = Router(tags=["tokens"])
router = Router(tags=["sign-in providers"], auth=AccessToken())

# --- Signing in ---------------------------------------------------------------------------------------------


@entrance.post(
    "/token/provider/begin",
    operation_id="beginProviderSignIn",
    **answers({200: schemas.ProviderBegunOut}, *BODY, errors.ProviderUnknown),
)
def begin_provider_sign_in(request: HttpRequest, payload: schemas.BeginProviderIn) -> identities.Begun:
    """Begin a sign-in with a provider.

    For `native` providers of the config: give the `nonce` to the provider's SDK. `signInByProvider` takes its ID token,
    with the `state`. Both are good once. Also before `linkIdentity` and `reauthenticate`."""
    return identities.begin(provider=payload.provider)


def _signed_in(found: SignedIn | None, status: int) -> Status[Any]:
    return Status(status, found) if found else Status(202, {"detail": _("Enter the code we emailed you.")})


@entrance.post(
    "/token/provider",
    operation_id="signInByProvider",
    **answers(
        {200: schemas.SignedInOut, 202: schemas.AcceptedOut},
        *BODY,
        *KEY,
        *PROVIDER,
        errors.MfaRequired,
        errors.AccountDisabled,
        errors.EmailNotVerified,
        errors.SignUpClosed,
        errors.IdentityUnknown,
        errors.IdentityTaken,
        errors.RateLimited,
    ),
)
@repeatable
def sign_in_by_provider(request: HttpRequest, payload: schemas.ProviderSignInIn) -> Status[Any]:
    """Sign in with a provider's ID token.

    Somebody who is unknown gets an account, or with `create` false the answer `identity_unknown`: its `ticket` is for
    `signUpByProvider`, or for `linkIdentity` after another sign-in. A known person with MFA is answered `mfa_required`.
    202 as at `signUp`, if the address must be verified first."""
    found = federation.sign_in_app(
        provider=payload.provider,
        id_token=payload.id_token,
        state=payload.state,
        create=payload.create,
        names=payload.model_dump(include={"first_name", "last_name"}),
        caller=caller(request, schemas.device(payload.device)),
    )
    return _signed_in(found, 200)


@entrance.post(
    "/token/provider/create",
    operation_id="signUpByProvider",
    **answers(
        {201: schemas.SignedInOut, 202: schemas.AcceptedOut},
        *BODY,
        *KEY,
        errors.InvalidTicket,
        errors.ProviderUnknown,
        errors.SignUpClosed,
        errors.UsernameTaken,
        errors.RateLimited,
    ),
)
@repeatable
def sign_up_by_provider(request: HttpRequest, payload: schemas.ProviderSignUpIn) -> Status[Any]:
    """Create an account after `identity_unknown`.

    What is left out is taken from the provider. An `email` is used only where the provider proves none."""
    where = caller(request, schemas.device(payload.device))
    given = payload.model_dump(exclude={"ticket", "device"})
    fields = {name: value for name, value in given.items() if value}
    return _signed_in(federation.create_app(ticket=payload.ticket, fields=fields, caller=where), 201)


# --- The account's own --------------------------------------------------------------------------------------


@router.get("/me/identities", operation_id="listIdentities", **answers({200: schemas.IdentitiesOut}, *TOKEN))
def list_identities(request: AuthenticatedRequest) -> identities.Ways:
    """List the connected sign-in providers.

    And whether the account has a password: without one, operations that ask for it take a sign-in of the last 10
    minutes in its place."""
    return identities.ways(request.user)


@router.post(
    "/me/identities",
    operation_id="linkIdentity",
    **answers(
        {201: schemas.IdentityOut},
        *TOKEN,
        *BODY,
        *KEY,
        *PROVIDER,
        *RECENT,
        errors.IdentityTaken,
        errors.TooManyIdentities,
        errors.RateLimited,
    ),
)
@repeatable
def link_identity(request: AuthenticatedRequest, payload: schemas.LinkIdentityIn) -> Status[Identity]:
    """Connect a sign-in provider.

    From now on it signs in to this account. The owner is told by email."""
    mine: dict[str, Any] = {
        "user": request.user, "session": request.user_session, "caller": caller(request),
    }  # fmt: skip
    if payload.ticket:
        return Status(201, identities.link_by_ticket(ticket=payload.ticket, **mine))
    return Status(201, identities.link(**payload.model_dump(exclude={"ticket"}), **mine))


@router.delete(
    "/me/identities/{identity_id}",
    operation_id="unlinkIdentity",
    **answers({204: None}, *TOKEN, *RECENT, errors.InvalidInput, errors.IdentityNotFound, errors.LastWayIn),
)
def unlink_identity(request: AuthenticatedRequest, identity_id: UUID) -> Status[None]:
    """Disconnect a sign-in provider.

    Other devices that signed in by it are signed out. The last way into the account stays."""
    identities.unlink(user=request.user, session=request.user_session, identity_id=identity_id, caller=caller(request))
    return Status(204, None)
