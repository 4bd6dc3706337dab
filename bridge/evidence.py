"""The archive: one file for each rental that proves it to a stranger (FF-EVI-10).

The store has what car and fleet signed; the fleet directory has the certificates and
the trust bundles by which a stranger can check it. Nothing is signed here, and nothing
that is made here needs to be believed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bridge.errors import EvidenceError
from bridge.registry import REVOKED, SUFFIX
from bridge.rows.evidence import RentalProof
from bridge.trust import bundle_files
from protocol.enrolment import RECORD_LIMIT, RecordFile, is_issued_by
from protocol.evidence import LINKS_LIMIT, Exhibit, build_evidence
from protocol.fleet import FILE_LIMIT
from protocol.identity import VehicleId

CERTIFICATE_LIMIT: Final = 65_536
"""Bytes of a file of certificates in PEM; an issuing CA's has about 800."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where the public parts of evidence lie."""

    fleet_id: bytes
    """16 bytes."""
    issuing_certificate: Path
    """PEM of the authority that certifies vehicles' keys."""
    registry: Path
    """Directory of vehicle records; those of withdrawn ones lie beside it."""
    bundles: Path
    """Directory of signed trust bundles, ``bundle-<version>.bin``."""

    def file_of(self, proof: RentalProof) -> bytes:
        """Return the evidence file of a rental; blocks.

        Raises:
            EvidenceError: a part that belongs to it cannot be read.
        """
        return build_evidence(self.exhibit_of(proof))

    def exhibit_of(self, proof: RentalProof) -> Exhibit:
        """Return the signed parts with what a stranger checks them by; blocks.

        Raises:
            EvidenceError: a part that belongs to it cannot be read.
        """
        record = self._record(proof.vehicle_id)
        signing = _certificates(record.signing_certificate.encode())[0]
        return Exhibit(
            fleet_id=self.fleet_id,
            vehicle_id=proof.vehicle_id,
            issuing_certificate=self._issuer_of(signing).public_bytes(Encoding.DER),
            signing_certificate=signing.public_bytes(Encoding.DER),
            bundles=self._bundles(),
            rotations=proof.rotations,
            entries=proof.entries,
            receipt=proof.receipt,
            commands=proof.commands,
            places=proof.places,
        )

    def _record(self, vehicle_id: VehicleId) -> RecordFile:
        name = f"{vehicle_id}{SUFFIX}"
        withdrawn = self.registry.parent / REVOKED / name
        path = self.registry / name
        data = _read(withdrawn if withdrawn.is_file() else path, RECORD_LIMIT)
        try:
            return msgspec.json.decode(data, type=RecordFile)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EvidenceError(
                f"vehicle record {name} cannot be read: {error}",
                advice="issue this vehicle again with `freefloat certs issue`",
            ) from error

    def _issuer_of(self, signing: x509.Certificate) -> x509.Certificate:
        """Return the CA certificate that was in force when this one was signed.

        The file has all that the CA ever had: it renews them, and changes its key.
        """
        found = _certificates(_read(self.issuing_certificate, CERTIFICATE_LIMIT))
        fitting = [one for one in found if is_issued_by(signing, one)]
        begin = signing.not_valid_before_utc
        for issuer in fitting:
            if issuer.not_valid_before_utc <= begin <= issuer.not_valid_after_utc:
                return issuer
        # Whoever verifies it says what is wrong with it.
        return (fitting or found)[0]

    def _bundles(self) -> tuple[bytes, ...]:
        """Return the bundles, the oldest first; the newest ones if there are many."""
        files = bundle_files(self.bundles)[-LINKS_LIMIT:]
        return tuple(_read(path, FILE_LIMIT) for path in files)


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise EvidenceError(
            f"{path.name} cannot be read: {error.strerror}",
            advice="check the fleet directory of the bridge's settings, and its owner",
        ) from error


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise EvidenceError(
            "a certificate of the evidence is no PEM",
            advice="name a directory that `freefloat certs init` made",
        ) from error
