"""Trust bundles: which keys may command a fleet's cars, signed by offline roots.

A bundle is a body and detached signatures over it. It names the roots themselves and
how many of them must sign, so that they too can be replaced: a bundle that changes them
is signed by the old and the new ones (protocol-design.md 1.1). A key of role REVOKE is
online and may sign bundles that only shrink; `protocol.succession` judges what may
follow what.

The attackers considered: the broker, which can hold back a bundle or bring an old one
again; a thief of one root, or of the revoke key.
"""

from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.codes import Code, Lane, Opcode, Role, Suite, SyncType
from protocol.errors import AuthenticationError, DecodeError
from protocol.identity import ID_SIZE, KEY_ID_SIZE, key_id
from protocol.key_material import KEY_MATERIAL
from protocol.keys import SIGNATURE_SIZE, SigningKey, VerifyKey
from protocol.layout import (
    U8,
    U16,
    U32,
    U64,
    Layout,
    bytes_up_to,
    code_of,
    ranged,
    sequence_of,
)

TRUST_CONTEXT: Final = b"ff-trust-v1\0"
"""Separates bundle signatures from everything else that a root might sign."""

BUNDLE_LIMIT: Final = 3072
"""Bytes of a bundle's body: it fits a TRUST frame of 4,096 with eight signatures."""

KEYS_LIMIT: Final = 32
ROOTS_LIMIT: Final = 8
REVOKED_LIMIT: Final = 64

EVERY_GROUP: Final = 0
"""The group of a key that may speak to every vehicle."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One key that may sign frames to cars, and how far it reaches."""

    public_key: bytes
    """32 raw bytes (Ed25519) or 33 (P-256)."""
    role: Role
    """What its owner is for."""
    group: int
    """The one group of vehicles that it may speak to; 0 for every vehicle."""
    opcodes: tuple[int, ...]
    """Opcodes and types of SYNC that it may sign; empty for a receipt key."""
    lanes: tuple[Lane, ...]
    """Lanes that it may use."""
    max_ttl_ms: int
    """No command of this key may live longer, whatever its opcode allows."""
    not_before_ms: int
    """UTC ms."""
    not_after_ms: int
    """UTC ms."""

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name this key in frames."""
        return key_id(self.public_key)


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """What the cars of one fleet trust."""

    fleet_id: bytes
    """16 bytes: fleet and environment; also part of every frame's signed bytes."""
    version: int
    """From 1, never going back in a car."""
    issued_ms: int
    """UTC ms."""
    expires_ms: int
    """UTC ms; afterwards a car reports that it is being kept from news."""
    threshold: int
    """How many different roots must sign what follows this bundle."""
    roots: tuple[bytes, ...]
    """Raw public keys of the roots."""
    suites: tuple[Suite, ...]
    """Suites that frames may use; nothing is negotiated."""
    keys: tuple[TrustedKey, ...]
    """Who may sign."""
    revoked: tuple[bytes, ...]
    """Key ids that must be refused even if this or an older bundle names them."""

    @property
    def trust_roots(self) -> "TrustRoots":
        """Who must sign what follows this bundle.

        Raises:
            AuthenticationError: a root is a weak key.
        """
        return TrustRoots(
            tuple(VerifyKey.load(raw) for raw in self.roots), self.threshold
        )

    def find(self, wanted: bytes) -> TrustedKey | None:
        """Return the key with an id, None if the bundle does not name it."""
        return next((key for key in self.keys if key.key_id == wanted), None)


@dataclass(frozen=True, slots=True)
class TrustRoots:
    """The offline keys that a car holds: those of its bundle, at first those given."""

    keys: tuple[VerifyKey, ...]
    """All roots."""
    threshold: int
    """How many different ones must sign a bundle."""


@dataclass(frozen=True, slots=True)
class RootSignature:
    """The signature of one root, or of a revoke key, under a body."""

    root_key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """What lies in the file ``bundle-<version>.bin`` and travels to cars."""

    body: bytes
    """The encoded `TrustBundle`; signatures cover these bytes."""
    signatures: tuple[RootSignature, ...]
    """One for each root that signed."""


KEY: Final = Layout(
    TrustedKey,
    "public_key" / KEY_MATERIAL,
    "role" / code_of(U8, Role),
    "group" / U16,
    "opcodes" / sequence_of(U16, 64),
    "lanes" / sequence_of(code_of(U8, Lane), len(Lane)),
    "max_ttl_ms" / U32,
    "not_before_ms" / U64,
    "not_after_ms" / U64,
)

BUNDLE: Final = Layout(
    TrustBundle,
    "fleet_id" / cs.Bytes(ID_SIZE),
    "version" / ranged(U32, 1, 0xFFFF_FFFF),
    "issued_ms" / U64,
    "expires_ms" / U64,
    "threshold" / ranged(U8, 1, ROOTS_LIMIT),
    "roots" / sequence_of(KEY_MATERIAL, ROOTS_LIMIT),
    "suites" / sequence_of(code_of(U8, Suite), len(Suite)),
    "keys" / sequence_of(KEY.nested(), KEYS_LIMIT),
    "revoked" / sequence_of(cs.Bytes(KEY_ID_SIZE), REVOKED_LIMIT),
)

ROOT_SIGNATURE: Final = Layout(
    RootSignature,
    "root_key_id" / cs.Bytes(KEY_ID_SIZE),
    "signature" / cs.Bytes(SIGNATURE_SIZE),
)

SIGNED_BUNDLE: Final = Layout(
    SignedBundle,
    "body" / bytes_up_to(BUNDLE_LIMIT),
    "signatures" / sequence_of(ROOT_SIGNATURE.nested(), ROOTS_LIMIT),
)


def sign_bundle(bundle: TrustBundle, roots: tuple[SigningKey, ...]) -> bytes:
    """Return the signed bundle's bytes.

    Raises:
        EncodeError: a value does not fit its field.
    """
    body = BUNDLE.build(bundle)
    signatures = tuple(
        RootSignature(root.key_id, root.sign(TRUST_CONTEXT + body)) for root in roots
    )
    return SIGNED_BUNDLE.build(SignedBundle(body, signatures))


def open_bundle(data: bytes, roots: TrustRoots, *, fleet_id: bytes) -> TrustBundle:
    """Verify a signed bundle by roots that are known already; return what it says.

    Signatures of roots that are not in `roots` count for nothing and do no harm: while
    the roots change, a bundle carries those of the old and the new ones.

    Raises:
        DecodeError: not the encoding of a bundle, or its parts contradict each other.
        AuthenticationError: a signature does not hold, too few different roots signed,
            it is another fleet's (GROUP_MISMATCH), or a key in it is weak.
    """
    signed = SIGNED_BUNDLE.parse(data)
    require_signed(signed, roots)
    return read_body(signed.body, fleet_id=fleet_id)


def require_signed(signed: SignedBundle, roots: TrustRoots) -> None:
    """Return if enough different roots signed a body.

    Raises:
        AuthenticationError: a signature of a root does not hold, or too few signed.
    """
    by_id = {root.key_id: root for root in roots.keys}
    signed_by: set[bytes] = set()
    for entry in signed.signatures:
        root = by_id.get(entry.root_key_id)
        if root is None:
            continue
        root.verify(entry.signature, TRUST_CONTEXT + signed.body)
        signed_by.add(entry.root_key_id)
    if len(signed_by) < roots.threshold:
        raise AuthenticationError(
            Code.UNKNOWN_KEY,
            f"{len(signed_by)} of the needed {roots.threshold} trust roots signed",
        )


def read_body(body: bytes, *, fleet_id: bytes) -> TrustBundle:
    """Read a bundle's body and judge it by itself, not who signed it.

    Raises:
        DecodeError: not the encoding of a bundle, or its parts contradict each other.
        AuthenticationError: another fleet's (GROUP_MISMATCH), or a key in it is weak.
    """
    bundle = BUNDLE.parse(body)
    if bundle.fleet_id != fleet_id:
        raise AuthenticationError(
            Code.GROUP_MISMATCH,
            f"bundle is of fleet {bundle.fleet_id.hex()}, this is {fleet_id.hex()}",
        )
    for raw in (*bundle.roots, *(key.public_key for key in bundle.keys)):
        VerifyKey.load(raw)
    if len({key.key_id for key in bundle.keys}) < len(bundle.keys):
        # Which of two roles such a key has would depend on who reads the bundle.
        raise DecodeError(Code.BAD_PARAM, "a key is listed twice in the bundle")
    if len(set(bundle.roots)) < len(bundle.roots):
        # Two entries of one root would let one signature look like two.
        raise DecodeError(Code.BAD_PARAM, "a trust root is listed twice in the bundle")
    if bundle.threshold > len(bundle.roots):
        # Nothing could follow such a bundle.
        raise DecodeError(
            Code.BAD_PARAM,
            f"threshold {bundle.threshold} of {len(bundle.roots)} trust roots",
        )
    return bundle


ALL_OPCODES: Final = (
    *(int(opcode) for opcode in Opcode),
    *(int(sync_type) for sync_type in SyncType),
)
"""What the embedded default's one command signer may sign."""
