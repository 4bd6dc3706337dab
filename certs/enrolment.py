"""How a vehicle's keys become certificates and a record.

The vehicle's side makes keys and a claim; the authority's side checks the claim and
signs. Both run in one process when ``freefloat certs issue`` makes a car's directory;
a car with a secure element makes the claim inside and sends it.

The attacker considered: somebody who enrols a key that is not his own (another car's
public key, so that its reports could be claimed), a key with which any signature holds,
or an id or key a second time (reliability.md K10).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.x509.oid import NameOID

from certs.authority import Authority, new_tls_key, pem_chain
from certs.errors import ClaimError, DuplicateError
from certs.profiles import Kind
from certs.trust import new_signing_key
from protocol.codes import Code
from protocol.enrolment import (
    RECORD_FORMAT,
    RecordFile,
    proof_message,
    prove_possession,
)
from protocol.errors import DecodeError, ProtocolError
from protocol.identity import VehicleId, key_id
from protocol.keyfile import raw_public_key
from protocol.keys import Ed25519SigningKey, P256SigningKey, VerifyKey
from protocol.p256 import compressed
from protocol.rotation import rotated_key


@dataclass(frozen=True, slots=True)
class Claim:
    """Public keys that a vehicle wants certified, and proof that they are its own."""

    vehicle_id: VehicleId
    """The id it asks for."""
    tls_request: x509.CertificateSigningRequest
    """P-256; signed by the TLS key itself, CN = vehicle id (PKCS #10)."""
    signing_key: bytes
    """Ed25519, 32 raw bytes, or P-256, 33."""
    sealing_key: bytes
    """X25519, 32 raw bytes. It cannot sign; the proof covers it by naming it."""
    proof: bytes
    """64 bytes: `protocol.enrolment.prove_possession`."""


@dataclass(frozen=True, slots=True, repr=False)
class VehicleKeys:
    """A car's three private keys; the text form shows none of them."""

    tls: ec.EllipticCurvePrivateKey
    """Opens the MQTT session."""
    signing: Ed25519SigningKey | P256SigningKey
    """Signs frames."""
    sealing: X25519PrivateKey
    """Opens sealed secrets."""

    @classmethod
    def generate(cls) -> Self:
        """Make three fresh keys."""
        return cls(new_tls_key(), new_signing_key(), X25519PrivateKey.generate())

    def claim(self, vehicle_id: VehicleId, *, fleet_id: bytes) -> Claim:
        """Return the claim of these keys to be `vehicle_id` of that fleet."""
        sealing = self.sealing.public_key().public_bytes_raw()
        subject = x509.NameAttribute(NameOID.COMMON_NAME, str(vehicle_id))
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([subject]))
            .sign(self.tls, hashes.SHA256())
        )
        proof = prove_possession(
            self.signing, fleet_id=fleet_id, vehicle_id=vehicle_id, sealing_key=sealing
        )
        return Claim(vehicle_id, request, self.signing.verify_key.raw, sealing, proof)

    def __repr__(self) -> str:
        return f"VehicleKeys({self.signing!r})"


@dataclass(slots=True)
class Enrolled:
    """Ids and keys that are taken."""

    vehicle_ids: set[VehicleId] = field(default_factory=set)
    """Of registered vehicles."""
    key_ids: set[bytes] = field(default_factory=set)
    """Of their signing keys: 8 bytes each. Comparing these and not the keys refuses
    collisions too, which the 8-byte field of a frame could not tell apart."""
    sealing_keys: set[bytes] = field(default_factory=set)
    """32 raw bytes each."""

    def require_new(self, claim: Claim) -> None:
        """Return if neither the id nor a key of this claim is taken.

        Raises:
            DuplicateError: one is.
        """
        if claim.vehicle_id in self.vehicle_ids:
            raise DuplicateError(
                f"vehicle {claim.vehicle_id} is registered already",
                "leave the id out for a random one; keys are renewed, not issued twice",
            )
        if key_id(claim.signing_key) in self.key_ids:
            raise DuplicateError(
                f"signing key {key_id(claim.signing_key).hex()} of the claim for "
                f"{claim.vehicle_id} belongs to a registered vehicle",
                "every vehicle makes keys of its own; a copied key may be an attack",
            )
        if claim.sealing_key in self.sealing_keys:
            raise DuplicateError(
                f"sealing key of the claim for {claim.vehicle_id} belongs to a "
                "registered vehicle",
                "every vehicle makes keys of its own; a copied key may be an attack",
            )

    def add(
        self, vehicle_id: VehicleId, *, signing_key: bytes, sealing_key: bytes
    ) -> None:
        """Take an id and its keys."""
        self.vehicle_ids.add(vehicle_id)
        self.key_ids.add(key_id(signing_key))
        self.sealing_keys.add(sealing_key)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the authority answers; all of it is public."""

    vehicle_id: VehicleId
    """Whose."""
    tls_certificate: x509.Certificate
    """Without its chain."""
    record: bytes
    """The registry file (`protocol.enrolment.VehicleRecord` reads it)."""


def enrol(
    claim: Claim,
    authority: Authority,
    enrolled: Enrolled,
    *,
    fleet_id: bytes,
    now: datetime,
    tls_lifetime: timedelta | None = None,
) -> Enrolment:
    """Check a claim, take its id and keys, and certify it.

    Args:
        claim: made by the vehicle.
        authority: the issuing CA.
        enrolled: what is taken; the claim is added to it.
        fleet_id: 16 bytes; a proof made for another fleet does not hold.
        now: with a time zone.
        tls_lifetime: shorter than the profile's, or None for the profile's.

    Raises:
        ClaimError: a key is weak or possession is not proved.
        DuplicateError: the id or a key is taken.
        RequestError: a profile does not allow it.
            After any of them nothing was signed and `enrolled` is as it was.
    """
    tls_key = require_proved(claim, fleet_id=fleet_id)
    enrolled.require_new(claim)
    name = str(claim.vehicle_id)
    tls = authority.issue(
        Kind.VEHICLE_TLS, name, tls_key, now=now, lifetime=tls_lifetime
    )
    signing = authority.issue(
        Kind.VEHICLE_SIGNING,
        name,
        VerifyKey.load(claim.signing_key).handle,
        now=now,
    )
    sealing = authority.issue(
        Kind.VEHICLE_SEALING,
        name,
        X25519PublicKey.from_public_bytes(claim.sealing_key),
        now=now,
    )
    record = RecordFile(
        format=RECORD_FORMAT,
        vehicle_id=name,
        signing_certificate=pem_chain(signing).decode(),
        sealing_certificate=pem_chain(sealing).decode(),
        tls_fingerprint=tls.fingerprint(hashes.SHA256()).hex(),
        proof=claim.proof.hex(),
    )
    enrolled.add(
        claim.vehicle_id,
        signing_key=claim.signing_key,
        sealing_key=claim.sealing_key,
    )
    return Enrolment(claim.vehicle_id, tls, build_record(record))


def require_proved(claim: Claim, *, fleet_id: bytes) -> ec.EllipticCurvePublicKey:
    """Return the claim's TLS key if its proofs hold.

    Raises:
        ClaimError: a key is weak, of the wrong kind or length, or not proved.
    """
    message = proof_message(
        fleet_id, claim.vehicle_id, claim.signing_key, claim.sealing_key
    )
    try:
        VerifyKey.load(claim.signing_key).verify(claim.proof, message)
        X25519PublicKey.from_public_bytes(claim.sealing_key)
    except (ProtocolError, ValueError) as error:
        raise ClaimError(
            f"claim of vehicle {claim.vehicle_id} is not proved: {error}",
            "the vehicle must make new keys and a new claim for this very fleet",
        ) from None
    tls_key = claim.tls_request.public_key()
    names = claim.tls_request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if (
        not isinstance(tls_key, ec.EllipticCurvePublicKey)
        or not claim.tls_request.is_signature_valid
        or [name.value for name in names] != [str(claim.vehicle_id)]
    ):
        raise ClaimError(
            f"TLS request of vehicle {claim.vehicle_id} is not signed by its own "
            "P-256 key for this very vehicle",
            "the vehicle must make a new claim",
        )
    if compressed(tls_key) == claim.signing_key:
        # A TLS server could ask for a signature that is a frame's.
        raise ClaimError(
            f"vehicle {claim.vehicle_id} claims one key for TLS and for frames",
            "the vehicle must make a signing key of its own",
        )
    return tls_key


def enrolled_in(records: Iterable[bytes]) -> Enrolled:
    """Return what the given registry files take.

    They are read, not verified: the registry is this authority's own, and a damaged
    file must not free a vehicle's id or key, so it is an error here.

    Raises:
        ValueError: a file or certificate is damaged.
        DecodeError: a vehicle id is none, or a key of another kind.
    """
    enrolled = Enrolled()
    for data in records:
        record = msgspec.json.decode(data, type=RecordFile)
        signing = _public_key(record.signing_certificate)
        sealing = _public_key(record.sealing_certificate)
        if not isinstance(sealing, X25519PublicKey):
            raise DecodeError(
                Code.BAD_PARAM, f"record of {record.vehicle_id} holds other keys"
            )
        enrolled.add(
            VehicleId.from_text(record.vehicle_id),
            signing_key=raw_public_key(signing, name="signing certificate"),
            sealing_key=sealing.public_bytes_raw(),
        )
        # Keys that were rotated to are taken, and those that were replaced stay so.
        enrolled.key_ids.update(
            key_id(rotated_key(bytes.fromhex(one))) for one in record.rotations
        )
    return enrolled


def build_record(record: RecordFile) -> bytes:
    """Return the bytes of a registry file."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def _public_key(pem: str) -> object:
    return x509.load_pem_x509_certificate(pem.encode()).public_key()
