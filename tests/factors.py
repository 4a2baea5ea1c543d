"""What people carry: an authenticator app, a device that makes passkeys, and what a provider says of them."""

import base64
import json
import secrets
import struct
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from django.conf import settings
from fido2 import cbor
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode

from accounts.caller import Caller
from accounts.models import Session, TotpAuthenticator, User
from accounts.services.authentication import identities, passkeys, totp
from accounts.services.sessions import mfa
from project.devstack.provider import ADA, FakeProvider


class App:
    """An authenticator app with one secret."""

    def __init__(self, secret: str) -> None:
        self.seed = base64.b32decode(secret)
        self.recovery_codes: Sequence[str] = ()

    def code(self, steps: int = 0) -> str:
        """What it shows now, or that many half minutes later."""
        return mfa.code_at(self.seed, int(time.time()) // mfa.STEP + steps)

    def wrong(self) -> str:
        """Six digits that it does not show these minutes."""
        shown = {self.code(steps) for steps in range(-2, 5)}
        return next(code for code in ("000000", *(digit * 6 for digit in "123456789")) if code not in shown)


def two_step_on(user: User, session: Session, caller: Caller) -> App:
    """Turn two-step verification on; the code of the present half minute can be used once more."""
    setup = totp.begin(user=user, session=session)
    app = App(setup.secret)
    app.recovery_codes = totp.turn_on(user=user, session=session, state=setup.state, code=app.code(), caller=caller)
    TotpAuthenticator.objects.filter(user=user).update(last_step=0)
    return app


FLAGS = {"present": 0x01, "verified": 0x04, "may_be_synced": 0x08, "attested": 0x40}


class Device:
    """A phone or a security key that makes passkeys and signs with them, as WebAuthn describes it. `synced` ones do not
    count."""

    def __init__(self, *, synced: bool = True, origin: str = "", aaguid: str = str(UUID(int=0))) -> None:
        self.synced, self.origin, self.aaguid = synced, origin or settings.PUBLIC_URL, UUID(aaguid)
        self.verifies, self.counter = True, 0 if synced else 1
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.id, self.user = secrets.token_bytes(24), b""

    def _client_data(self, kind: str, challenge: str) -> bytes:
        said = {"type": f"webauthn.{kind}", "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return json.dumps(said).encode()

    def _authenticator_data(self, rp_id: str, more: bytes = b"") -> bytes:
        flags = FLAGS["present"] | (FLAGS["verified"] if self.verifies else 0)
        flags |= (FLAGS["may_be_synced"] if self.synced else 0) | (FLAGS["attested"] if more else 0)
        return sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, self.counter) + more

    def _answer(self, **response: bytes) -> dict[str, Any]:
        coded = {name: websafe_encode(value) for name, value in response.items()}
        name = websafe_encode(self.id)
        return {"id": name, "rawId": name, "type": "public-key", "response": coded, "clientExtensionResults": {}}

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """Make a passkey: the answer to `beginPasskey`."""
        self.user = websafe_decode(options["user"]["id"])
        key = cbor.encode(dict(ES256.from_cryptography_key(self._key.public_key())))  # type: ignore[no-untyped-call]
        attested = self.aaguid.bytes + struct.pack(">H", len(self.id)) + self.id + key
        made = {"fmt": "none", "attStmt": {}, "authData": self._authenticator_data(options["rp"]["id"], attested)}
        return self._answer(
            clientDataJSON=self._client_data("create", options["challenge"]), attestationObject=cbor.encode(made)
        )

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """Sign with it: the answer to `beginPasskeySignIn`."""
        if not self.synced:
            self.counter += 1
        data = self._authenticator_data(options["rpId"])
        client = self._client_data("get", options["challenge"])
        signature = self._key.sign(data + sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._answer(clientDataJSON=client, authenticatorData=data, signature=signature, userHandle=self.user)


def passkey_on(user: User, session: Session, caller: Caller, *, name: str = "", **device_has: Any) -> Device:
    """A device with a passkey of this user."""
    device = Device(**device_has)
    begun = passkeys.begin_adding(user=user, session=session)
    passkeys.add(
        user=user, session=session, state=begun.state, credential=device.create(begun.options), name=name, caller=caller
    )
    return device


def id_token(fake: FakeProvider, provider: str = "google", person: Any = ADA, **changes: Any) -> dict[str, Any]:
    """What an app has after it began, and its person signed in at the provider. `changes` are other claims."""
    begun = identities.begin(provider=provider)
    kind = "oidc" if provider == "corp" else provider
    token = fake.token(kind, person, nonce=begun.nonce, **changes)
    return {"provider": provider, "id_token": token, "state": begun.state}
