"""The fleet's trust bundles in files: the history, the newest, and what waits.

::

    trust/bundle-<N>.bin   every version that was published, never changed
    trust/proposal.bin     a change that waits for signatures

A change is a body that must be signed by keys on several machines. The body travels as
the file of a bundle without enough signatures, each machine adds its own, and the
office merges what comes back. It is published only when `protocol.succession` accepts
it, so nothing that a car would refuse ever becomes the newest.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certs.errors import FleetError, RequestError
from certs.files import publish_new, replace_file
from certs.fleet import FleetDirectory, bundle_path
from protocol.codes import Code, Role
from protocol.errors import AuthenticationError
from protocol.keys import SigningKey, VerifyKey
from protocol.succession import succeed
from protocol.trust import (
    BUNDLE,
    SIGNED_BUNDLE,
    TRUST_CONTEXT,
    RootSignature,
    SignedBundle,
    TrustBundle,
    read_body,
)

PROPOSAL: Final = "trust/proposal.bin"
"""Where a change waits."""

REVOKE_KEY: Final = "trust/revoke.key"
"""Where the online revoke key lies, if the fleet has one."""

FILE_LIMIT: Final = 8_192
"""Bytes of a signed bundle; 3,072 of body and eight signatures take less."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the signing of a change is."""

    bundle: TrustBundle
    """The change."""
    signed_by: tuple[bytes, ...]
    """Key ids whose signature holds."""
    missing: str
    """Who must sign still, in a sentence; empty if it can be published."""


def sign_proposal(data: bytes, key: SigningKey) -> bytes:
    """Add one key's signature to a bundle's file; once is enough.

    Raises:
        DecodeError: not a bundle.
    """
    signed = SIGNED_BUNDLE.parse(data)
    others = tuple(one for one in signed.signatures if one.root_key_id != key.key_id)
    own = RootSignature(key.key_id, key.sign(TRUST_CONTEXT + signed.body))
    return SIGNED_BUNDLE.build(SignedBundle(signed.body, (*others, own)))


def unsigned(bundle: TrustBundle) -> bytes:
    """Return the file of a change that nobody has signed.

    Raises:
        EncodeError: it is too large for a bundle.
    """
    return SIGNED_BUNDLE.build(SignedBundle(BUNDLE.build(bundle), ()))


def merge(first: bytes, *others: bytes) -> bytes:
    """Return one file with the signatures of all, each signer once.

    Raises:
        DecodeError: one is no bundle.
        RequestError: they are not signatures of the same change.
    """
    parsed = [SIGNED_BUNDLE.parse(data) for data in (first, *others)]
    if len({one.body for one in parsed}) != 1:
        raise RequestError(
            "the files are not of the same change",
            "sign the very file that 'freefloat certs trust' exported",
        )
    by_id = {entry.root_key_id: entry for one in parsed for entry in one.signatures}
    return SIGNED_BUNDLE.build(SignedBundle(parsed[0].body, tuple(by_id.values())))


def progress(current: TrustBundle, data: bytes, *, fleet_id: bytes) -> Progress:
    """Say who signed a change, and who must still.

    Raises:
        DecodeError, AuthenticationError: it could not follow whoever signed it.
    """
    signed = SIGNED_BUNDLE.parse(data)
    bundle = read_body(signed.body, fleet_id=fleet_id)
    raws = (*current.roots, *bundle.roots, *_revoke_keys(current))
    keys = {key.key_id: key for key in map(VerifyKey.load, raws)}
    signers = []
    for entry in signed.signatures:
        key = keys.get(entry.root_key_id)
        if key is not None:
            key.verify(entry.signature, TRUST_CONTEXT + signed.body)
            signers.append(entry.root_key_id)
    missing = ""
    try:
        succeed(current, data, fleet_id=fleet_id)
    except AuthenticationError as error:
        if error.code is not Code.UNKNOWN_KEY:
            raise
        missing = _missing(current, bundle, set(signers))
    return Progress(bundle, tuple(signers), missing)


def _revoke_keys(current: TrustBundle) -> list[bytes]:
    return [key.public_key for key in current.keys if key.role is Role.REVOKE]


def _missing(current: TrustBundle, bundle: TrustBundle, signers: set[bytes]) -> str:
    parts = []
    for name, one in (("present", current), ("new", bundle)):
        ids = [key.key_id for key in one.trust_roots.keys]
        left = one.threshold - len(signers & set(ids))
        if left > 0 and (one is current or bundle.roots != current.roots):
            names = ", ".join(key.hex() for key in ids if key not in signers)
            parts.append(f"{left} of the {name} roots {names}")
    return " and ".join(parts)


class TrustFiles:
    """The bundles of one fleet directory."""

    def __init__(self, fleet: FleetDirectory) -> None:
        self._fleet = fleet

    @property
    def proposal_path(self) -> Path:
        """Where a change waits."""
        return self._fleet.path / PROPOSAL

    def current(self) -> TrustBundle:
        """Return the newest bundle, verified through all of its history.

        Raises:
            FleetError: a file is missing, damaged or not signed by who must.
        """
        return self._fleet.open_trust_bundle()

    def require_idle(self) -> None:
        """Return if no change waits.

        Raises:
            RequestError: one does.
        """
        if self.proposal_path.exists():
            raise RequestError(
                f"a change waits in {self.proposal_path}",
                "finish it with 'freefloat certs trust merge', or drop it with "
                "'freefloat certs trust discard'",
            )

    def propose(self, bundle: TrustBundle, signers: tuple[SigningKey, ...]) -> Progress:
        """Write a change, sign it with the keys at hand, and publish it if that is all.

        Raises:
            RequestError: another change waits.
            DecodeError, AuthenticationError, EncodeError: no car would take it.
        """
        self.require_idle()
        data = unsigned(bundle)
        for key in signers:
            data = sign_proposal(data, key)
        return self._settle(data)

    def take(self, *signed: bytes) -> Progress:
        """Merge signatures into the change that waits; publish it if they suffice.

        Raises:
            RequestError: nothing waits, or the files are of another change.
            DecodeError, AuthenticationError: a signature does not hold.
        """
        return self._settle(merge(self.waiting(), *signed))

    def waiting(self) -> bytes:
        """Return the change that waits.

        Raises:
            RequestError: none does.
        """
        try:
            return self.proposal_path.read_bytes()
        except FileNotFoundError:
            raise RequestError(
                "no change of trust waits for signatures",
                "begin one, such as 'freefloat certs trust rotate'",
            ) from None

    def discard(self) -> None:
        """Drop the change that waits.

        Raises:
            RequestError: none does.
        """
        self.waiting()
        self.proposal_path.unlink()

    def _settle(self, data: bytes) -> Progress:
        current, fleet_id = self.current(), self._fleet.fleet.fleet_id
        state = progress(current, data, fleet_id=fleet_id)
        if state.missing:
            replace_file(self.proposal_path, data)
            return state
        publish_new(bundle_path(self._fleet.path, state.bundle.version), data)
        self.proposal_path.unlink(missing_ok=True)
        return state


def read_bundle_file(path: Path) -> bytes:
    """Read a bundle's file that somebody names.

    Raises:
        FleetError: it is too large to be one.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise FleetError(f"{path} is no bundle: it has more than {FILE_LIMIT} bytes")
    return data


def describe(data: bytes) -> TrustBundle:
    """Return what a bundle says, whoever signed it: for a person who is to sign it.

    Raises:
        DecodeError, AuthenticationError: not a bundle, or with a weak key in it.
    """
    body = SIGNED_BUNDLE.parse(data).body
    return read_body(body, fleet_id=BUNDLE.parse(body).fleet_id)
