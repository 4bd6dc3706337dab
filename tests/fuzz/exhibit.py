"""A proof of published keys, the same in every process: what the evidence target bends.

Built of the vectors' ledger; the authority that certifies car A is of Ed25519, so that
its certificates come out the same byte for byte.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from protocol.anchors import EvidenceAnchors
from protocol.codes import FrameClass, FrameType, Role
from protocol.entry import entry_hash
from protocol.evidence import Exhibit
from protocol.frame import Header, parse_frame
from protocol.keys import SigningKey
from protocol.receipt import RECEIPT, Receipt
from protocol.signing import sign_frame
from protocol.trust import sign_bundle
from tests.protocol.vector_file import ACCEPTED, frame_of
from tools.published_keys import (
    CAR_A,
    CAR_A_KEY,
    FLEET_ID,
    LEDGER,
    MONO_MS,
    RECEIPT_KEY,
    ROOT_KEYS,
    SESSION,
    WALL_MS,
    trust_roots,
)
from tools.vector_trust import TRUST_BUNDLE

_CA: Final = Ed25519PrivateKey.from_private_bytes(b"\xf1" * 32)
_ISSUING: Final = Ed25519PrivateKey.from_private_bytes(b"\xf2" * 32)
_MADE: Final = datetime.fromtimestamp(WALL_MS // 1000, UTC)
_NEVER_MS: Final = (1 << 64) - 1
"""A fleet may say that a key holds for ever; the verifier must live with it."""

BUNDLE: Final = replace(
    TRUST_BUNDLE,
    keys=tuple(
        replace(key, not_after_ms=_NEVER_MS) if key.role is Role.RECEIPT else key
        for key in TRUST_BUNDLE.keys
    ),
)


def _certificate(
    name: str,
    public: Ed25519PublicKey,
    issuer: str,
    key: Ed25519PrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(public)
        .serial_number(4711)
        .not_valid_before(_MADE - timedelta(days=1))
        .not_valid_after(_MADE + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, None)
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


_ROOT: Final = _certificate("root", _CA.public_key(), "root", _CA, ca=True)

ANCHORS: Final = EvidenceAnchors(FLEET_ID, (_ROOT,), trust_roots())
"""What the verifier believes."""


def receipt_of(entries: tuple[bytes, ...]) -> bytes:
    """Return the fleet's receipt up to the last of these entries."""
    receipt = Receipt(
        LEDGER,
        parse_frame(entries[-1]).header.seq,
        entry_hash(entries[-1]),
        1,
        (),
        (),
    )
    return signed(
        replace(
            parse_frame(entries[-1]).header,
            frame_class=FrameClass.RECEIPT,
            type=FrameType.RECEIPT,
            session_id=SESSION,
            seq=1,
            mono_ms=MONO_MS,
            wall_ms=WALL_MS + 60_000,
        ),
        RECEIPT.build(receipt),
        RECEIPT_KEY.key,
    )


def signed(header: Header, payload: bytes, key: SigningKey) -> bytes:
    """Return a frame that says it is of this key, and is."""
    header = replace(header, suite=key.suite, key_id=key.key_id)
    return sign_frame(header, payload, fleet_id=FLEET_ID, key=key)


def _ledger() -> tuple[bytes, ...]:
    """Return the first entries of the vectors' ledger, a rotation left out."""
    by_seq = {
        vector["fields"]["header"]["seq"]: frame_of(name)
        for name, vector in ACCEPTED.items()
        if vector["fields"]["link"]
        and vector["fields"]["link"]["ledger_id"] == LEDGER.hex()
        and vector["key"]["name"] == CAR_A_KEY.name
    }
    return tuple(by_seq[seq] for seq in range(1, 5))


def whole() -> Exhibit:
    """Return the exhibit, which verifies."""
    car = Ed25519PublicKey.from_public_bytes(CAR_A_KEY.key.verify_key.raw)
    entries = _ledger()
    return Exhibit(
        fleet_id=FLEET_ID,
        vehicle_id=CAR_A,
        issuing_certificate=_der(
            _certificate("issuing", _ISSUING.public_key(), "root", _CA, ca=True)
        ),
        signing_certificate=_der(
            _certificate(str(CAR_A), car, "issuing", _ISSUING, ca=False)
        ),
        bundles=(sign_bundle(BUNDLE, tuple(root.key for root in ROOT_KEYS[:2])),),
        rotations=(),
        entries=entries,
        receipt=receipt_of(entries),
    )
