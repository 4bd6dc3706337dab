"""Trust bundles: which keys may command a fleet's cars, signed by offline roots.

A bundle is a body and detached signatures over it. Cars hold the roots' public keys and
a threshold; a bundle counts when enough different roots signed it, when its fleet is
theirs and when its version is not below the one they hold (protocol-design.md 1.1).
What is judged here is the bundle alone; versions are compared by whoever holds one.
"""

from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.codes import Code, Lane, Opcode, Role, Suite
from protocol.errors import AuthenticationError, DecodeError
from protocol.identity import ID_SIZE, KEY_ID_SIZE, key_id
from protocol.keys import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, SigningKey, VerifyKey
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
"""Bytes of a bundle's body: it fits a TRUST frame of 4,096 with three signatures."""

KEYS_LIMIT: Final = 32
ROOTS_LIMIT: Final = 8
REVOKED_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One key that may sign frames to cars, and how far it reaches."""

    public_key: bytes
    """32 raw bytes."""
    role: Role
    """What its owner is for."""
    opcodes: tuple[int, ...]
    """Opcodes that it may sign; empty for a receipt key."""
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
    suites: tuple[Suite, ...]
    """Suites that frames may use; nothing is negotiated."""
    keys: tuple[TrustedKey, ...]
    """Who may sign."""
    revoked: tuple[bytes, ...]
    """Key ids that must be refused even if an older bundle named them."""


@dataclass(frozen=True, slots=True)
class RootSignature:
    """One root's signature under a body."""

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
    "public_key" / cs.Bytes(PUBLIC_KEY_SIZE),
    "role" / code_of(U8, Role),
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


@dataclass(frozen=True, slots=True)
class TrustRoots:
    """The offline keys that a car was given when it was built."""

    keys: tuple[VerifyKey, ...]
    """All roots."""
    threshold: int
    """How many different ones must sign a bundle."""


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
    """Verify a signed bundle and return what it says.

    Signatures of roots that are not in `roots` count for nothing and do no harm: while
    the roots change, a bundle carries those of the old and the new ones.

    Raises:
        DecodeError: not the encoding of a bundle, or a key stands in it twice.
        AuthenticationError: a signature does not hold, too few different roots signed,
            it is another fleet's (GROUP_MISMATCH), or a key in it is weak.
    """
    signed = SIGNED_BUNDLE.parse(data)
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
    bundle = BUNDLE.parse(signed.body)
    if bundle.fleet_id != fleet_id:
        raise AuthenticationError(
            Code.GROUP_MISMATCH,
            f"bundle is of fleet {bundle.fleet_id.hex()}, this is {fleet_id.hex()}",
        )
    for key in bundle.keys:
        VerifyKey.load(key.public_key)
    if len({key.key_id for key in bundle.keys}) < len(bundle.keys):
        # Which of two roles such a key has would depend on who reads the bundle.
        raise DecodeError(Code.BAD_PARAM, "a key is listed twice in the bundle")
    return bundle


ALL_OPCODES: Final = tuple(int(opcode) for opcode in Opcode)
"""What the embedded default's one command signer may sign."""
