"""A vehicle's public record: what binds its id to its keys.

The fleet's issuing CA certifies three keys of a car: the TLS key, the signing key and
the sealing key. The last two stand in X.509 certificates of their own, whose CN is the
vehicle id, so that a report can be proved years later from the record alone
(protocol-design.md 1.1). A proof of possession shows that the enrolling side held the
private signing key; without it somebody could enrol another car's public key.

The file format (``registry/<VEHICLE>.json``) is the contract between the PKI that
writes records and the bridge that reads them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.x509.oid import NameOID

from protocol.codes import Code
from protocol.errors import AuthenticationError, DecodeError
from protocol.identity import VehicleId
from protocol.json_file import parse_file, parse_hex
from protocol.keyfile import raw_public_key
from protocol.keys import SigningKey, VerifyKey
from protocol.rotation import Handover, follow_rotations

RECORD_FORMAT: Final = 1
"""Revision of the record file."""

RECORD_LIMIT: Final = 65_536
"""Bytes of a record file; two certificates take about 2,000, each rotation 603 and the
certificate behind them 800."""

ROTATIONS_LIMIT: Final = 64
"""Rotations in a record: more than three a year for as long as a car lives."""

ENROL_CONTEXT: Final = b"ff-enrol-v1\0"
"""Separates proofs of possession from everything else that a car's key signs."""


GRACE_CONTEXT: Final = b"ff-grace-v1\0"
"""Separates requests for a renewal after expiry likewise."""

GRACE_NONCE_SIZE: Final = 32
"""Bytes that the enrolment service draws for one such request."""


class RecordFile(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The record as it lies in its file."""

    format: int
    """`RECORD_FORMAT`."""
    vehicle_id: str
    """Canonical base32 text."""
    signing_certificate: str
    """PEM: the first signing key, Ed25519 or P-256, CN = vehicle id, signed by the
    issuing CA. It stays when the car rotates its key, as it proves what was signed."""
    sealing_certificate: str
    """PEM: X25519 key, CN = vehicle id, signed by the issuing CA."""
    tls_fingerprint: str
    """SHA-256 of the TLS certificate in DER, 64 hex digits."""
    proof: str
    """128 hex digits: signature by the first signing key over `proof_message`."""
    rotations: list[str] = []
    """KEY_ROTATED frames in hex, oldest first: from the first key to the present."""
    present_certificate: str = ""
    """PEM: the present signing key, certified anew; empty while it is the first."""


@dataclass(frozen=True, slots=True)
class VehicleRecord:
    """A verified record: these keys belong to this vehicle."""

    vehicle_id: VehicleId
    """Whose record this is."""
    signing_key: VerifyKey
    """The first: verifies this vehicle's frames up to its first rotation."""
    sealing_key: X25519PublicKey
    """Secrets for this vehicle are sealed to it."""
    tls_fingerprint: str
    """SHA-256 of the TLS certificate that it was enrolled with, hex."""
    handovers: tuple[Handover, ...] = ()
    """The rotations that this record knows, oldest first."""

    @property
    def present_key(self) -> VerifyKey:
        """The newest signing key that the record knows."""
        return self.handovers[-1].new_key if self.handovers else self.signing_key

    @property
    def all_keys(self) -> tuple[VerifyKey, ...]:
        """Every signing key that this vehicle had, oldest first."""
        return (self.signing_key, *(one.new_key for one in self.handovers))

    def key_named(self, key_id: bytes) -> VerifyKey:
        """Return this vehicle's key of a frame; the present one if it is none of them.

        Where in a ledger each of them counted is the ledger's own to say (FF-ENR-15).
        """
        named = (key for key in self.all_keys if key.key_id == key_id)
        return next(named, self.present_key)

    @classmethod
    def parse(
        cls, data: bytes, *, fleet_id: bytes, issuers: Sequence[x509.Certificate]
    ) -> Self:
        """Verify a record file and return what it says.

        Args:
            data: the file's bytes.
            fleet_id: 16 bytes; part of the proof, so that a record of another
                environment does not hold here.
            issuers: the certificates of the CA, one of which must have signed: more
                than one after it changed its key.

        Raises:
            DecodeError: not a record file, or its parts do not belong together.
            AuthenticationError: not signed by the CA, a weak key, no proof, or a
                rotation that does not hold.
        """
        record = parse_file(
            data,
            RecordFile,
            name="vehicle record",
            limit=RECORD_LIMIT,
            revision=RECORD_FORMAT,
        )
        vehicle_id = VehicleId.from_text(record.vehicle_id)
        signing = _certificate(record.signing_certificate, "signing", vehicle_id)
        sealing = _certificate(record.sealing_certificate, "sealing", vehicle_id)
        for name, certificate in (("signing", signing), ("sealing", sealing)):
            _require_issued(certificate, issuers, name)
        signing_public, sealing_public = _public_key(signing), _public_key(sealing)
        if not isinstance(sealing_public, X25519PublicKey):
            raise DecodeError(Code.BAD_PARAM, "sealing certificate holds no X25519 key")
        key = VerifyKey.load(raw_public_key(signing_public, name="signing certificate"))
        message = proof_message(
            fleet_id, vehicle_id, key.raw, sealing_public.public_bytes_raw()
        )
        key.verify(parse_hex(record.proof, 64, name="proof"), message)
        fingerprint = parse_hex(record.tls_fingerprint, 32, name="tls_fingerprint")
        handovers = _handovers(record, key, fleet_id=fleet_id, vehicle_id=vehicle_id)
        if handovers or record.present_certificate:
            present = _certificate(record.present_certificate, "present", vehicle_id)
            _require_issued(present, issuers, "present")
            certified = raw_public_key(_public_key(present), name="present certificate")
            if not handovers or certified != handovers[-1].new_key.raw:
                raise DecodeError(
                    Code.BAD_PARAM,
                    "present certificate is not of the key that was rotated to last",
                )
        return cls(vehicle_id, key, sealing_public, fingerprint.hex(), handovers)


def _handovers(
    record: RecordFile, first: VerifyKey, *, fleet_id: bytes, vehicle_id: VehicleId
) -> tuple[Handover, ...]:
    if len(record.rotations) > ROTATIONS_LIMIT:
        raise DecodeError(
            Code.BAD_PARAM,
            f"{len(record.rotations)} rotations, at most {ROTATIONS_LIMIT}",
        )
    try:
        frames = [bytes.fromhex(text) for text in record.rotations]
    except ValueError:
        raise DecodeError(Code.BAD_PARAM, "a rotation is not hex") from None
    return follow_rotations(frames, first, fleet_id=fleet_id, vehicle_id=vehicle_id)


def proof_message(
    fleet_id: bytes, vehicle_id: VehicleId, signing_key: bytes, sealing_key: bytes
) -> bytes:
    """Return the bytes that a proof of possession signs."""
    return ENROL_CONTEXT + fleet_id + vehicle_id.raw + signing_key + sealing_key


def prove_possession(
    key: SigningKey, *, fleet_id: bytes, vehicle_id: VehicleId, sealing_key: bytes
) -> bytes:
    """Return the 64-byte proof, made where the private key is."""
    return key.sign(
        proof_message(fleet_id, vehicle_id, key.verify_key.raw, sealing_key)
    )


def grace_message(
    fleet_id: bytes, vehicle_id: VehicleId, nonce: bytes, tls_request: bytes
) -> bytes:
    """Return the bytes that a car's signing key signs to renew an expired certificate.

    Args:
        fleet_id: 16 bytes.
        vehicle_id: who asks.
        nonce: `GRACE_NONCE_SIZE` bytes from the service, so that a request is of use
            once and cannot be made in advance.
        tls_request: the PKCS #10 request in DER; named by its hash.
    """
    digest = hashlib.sha256(tls_request).digest()
    return GRACE_CONTEXT + fleet_id + vehicle_id.raw + nonce + digest


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether a CA's key signed a certificate under its name; no dates."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def require_name(
    certificate: x509.Certificate, vehicle_id: VehicleId, *, name: str
) -> None:
    """Return if a certificate names exactly this vehicle and nobody else.

    Args:
        certificate: any.
        vehicle_id: whom it must name, in its one CN.
        name: what the certificate is for, for the message.

    Raises:
        DecodeError: WRONG_VEHICLE, or BAD_PARAM if its subject cannot be read.
    """
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise DecodeError(Code.BAD_PARAM, f"{name} certificate: {error}") from None
    if [attribute.value for attribute in names] != [str(vehicle_id)]:
        raise DecodeError(
            Code.WRONG_VEHICLE, f"{name} certificate is not one of {vehicle_id}"
        )


def _certificate(pem: str, name: str, vehicle_id: VehicleId) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, x509.InvalidVersion) as error:
        raise DecodeError(Code.BAD_PARAM, f"{name} certificate: {error}") from None
    require_name(certificate, vehicle_id, name=name)
    return certificate


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DecodeError(Code.BAD_PARAM, f"certified key: {error}") from None


def _require_issued(
    certificate: x509.Certificate, issuers: Sequence[x509.Certificate], name: str
) -> None:
    if not any(is_issued_by(certificate, issuer) for issuer in issuers):
        raise AuthenticationError(
            Code.BAD_SIGNATURE,
            f"{name} certificate was not issued by this fleet's CA",
        )
