"""Replacing the key of the issuing CA, root and name staying what they are.

For a key that moves into a token, or that somebody may have copied. Two steps, with
time between them:

1. `prepare`: the root certifies the new key, and its certificate joins the others in
   ``ca/issuing.crt``. Copy that file to bridges and guards: from then on they take
   records of both keys. Nothing is signed by the new key yet.
2. `switch`: the new key signs. What the old one signed goes on counting to its end: a
   car sends its own chain, which ends in the same root, and records name the CA that
   signed them, whose old certificate stays in the file.

`finish` then removes the old key's file. Each step can be run again after a crash: the
key in ``ca/issuing.key`` says which of the certificates signs, and it changes by one
rename.

A thief of the old key is not out by this: certificates that he makes end in the root.
Change the root too then (`certs.rollover`): it certifies the new key only.
"""

import os
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.audit_log import Severity
from certs.authority import common_name, new_tls_key, pem_chain
from certs.errors import FleetError, RequestError
from certs.files import read_private, replace_file, sync_directory
from certs.fleet import FleetDirectory
from certs.profiles import Kind
from certs.renewing import Renewed, rewrite_chains, root_authority, write_issuing
from keystore.private_key import PrivateKey, parse_private_key
from protocol.fleet import FleetPart
from protocol.keyfile import build_key

NEW_KEY: Final = "ca/issuing-new.key"
OLD_KEY: Final = "ca/issuing-old.key"


@unique
class Phase(StrEnum):
    """Where a change of the issuing key stands."""

    NONE = "no change of the issuing key is under way"
    PREPARED = "prepared: records of both keys are taken, the old one signs"
    SWITCHED = "switched: the new key signs, the old one's file is still here"


@dataclass(frozen=True, slots=True)
class IssuingRollover:
    """A change of the issuing key as it stands."""

    phase: Phase
    """Which step was the last."""
    certificates: int
    """CA certificates in ``ca/issuing.crt``, former ones included."""


def issuing_rollover(fleet: FleetDirectory) -> IssuingRollover:
    """Say where a change of the issuing key stands.

    Raises:
        FleetError: the CA's certificates are damaged.
    """
    phase = Phase.NONE
    if (fleet.path / NEW_KEY).exists():
        phase = Phase.PREPARED
    elif (fleet.path / OLD_KEY).exists():
        phase = Phase.SWITCHED
    return IssuingRollover(phase, len(fleet.issuing_certificates))


def prepare_issuing(
    fleet: FleetDirectory,
    root_key: PrivateKey,
    *,
    key_file: bytes | None = None,
    now: datetime,
) -> Renewed:
    """Let the root certify the next issuing key (step 1).

    Args:
        fleet: whose.
        root_key: of the present root.
        key_file: what ``ca/issuing.key`` will hold: a key in PEM, or the URI of one in
            a token; None makes a key. Left out too to continue after a crash.
        now: with a time zone.

    Raises:
        RequestError: the change before is not finished, or the key is no P-256 key or
            was one of this CA.
        FleetError: the root key is not this fleet's root's, or a file is damaged.
        KeystoreError: the token cannot be used.
        OSError: a file could not be written; run it again.
    """
    root = root_authority(fleet, root_key)
    if (fleet.path / OLD_KEY).exists():
        raise RequestError(
            "the change of the issuing key before this one is not finished",
            "end it first: freefloat certs roll-issuing finish",
        )
    path = fleet.path / NEW_KEY
    if not path.exists():
        data = build_key(new_tls_key()) if key_file is None else key_file
        _require_new(_public_key(data, name="the new key"), fleet)
        replace_file(path, data, private=True)
    public = _public_key(read_private(path), name=str(path))
    certificate = _certificate_of(fleet, public)
    if certificate is None:
        certificate = root.issue(
            Kind.ISSUING, common_name(fleet.issuing_certificate), public, now=now
        )
        replace_file(
            fleet.path / FleetPart.ISSUING_CERTIFICATE,
            pem_chain(*fleet.issuing_certificates, certificate),
        )
        fleet.audit_log.write(Severity.NOTE, "issuing_prepared", now=now)
    return _renewed(certificate)


def switch_issuing(fleet: FleetDirectory, *, now: datetime) -> Renewed:
    """Let the new key sign (step 2); restart ``certs serve`` afterwards.

    Raises:
        RequestError: no change is prepared.
        FleetError: the new key has no certificate, or a file is damaged.
        KeystoreError: the token cannot be used.
        OSError: a file could not be written; run it again.
    """
    new, present = fleet.path / NEW_KEY, fleet.path / FleetPart.ISSUING_KEY
    if new.exists():
        public = _public_key(read_private(new), name=str(new))
        if _certificate_of(fleet, public) is None:
            raise FleetError(
                f"{NEW_KEY} is not certified yet",
                "run 'freefloat certs roll-issuing prepare' once more",
            )
        if not (fleet.path / OLD_KEY).exists():
            os.link(present, fleet.path / OLD_KEY)
        new.rename(present)
        sync_directory(present.parent)
    elif not (fleet.path / OLD_KEY).exists():
        raise RequestError(
            "no change of the issuing key is prepared",
            "begin: freefloat certs roll-issuing prepare",
        )
    certificate = fleet.issuing_authority().certificate
    write_issuing(fleet, certificate)
    rewrite_chains(fleet)
    fleet.audit_log.write(Severity.NOTE, "issuing_switched", now=now)
    return _renewed(certificate)


def finish_issuing(fleet: FleetDirectory, *, now: datetime) -> None:
    """Remove the file of the old key; its certificates stay, to verify what it signed.

    Raises:
        RequestError: nothing is switched.
        FleetError: the present key cannot be used: the old one stays.
        KeystoreError: the token cannot be used: likewise.
    """
    phase = issuing_rollover(fleet).phase
    if phase is not Phase.SWITCHED:
        raise RequestError(
            f"{phase}", "the steps are prepare, switch and finish, in this order"
        )
    if fleet.issuing_authority().certificate != fleet.issuing_certificate:
        raise FleetError(
            "the switch was cut off",
            "run 'freefloat certs roll-issuing switch' once more",
        )
    (fleet.path / OLD_KEY).unlink()
    fleet.audit_log.write(Severity.NOTE, "issuing_finished", now=now)


def _public_key(data: bytes, *, name: str) -> ec.EllipticCurvePublicKey:
    key = parse_private_key(data, name=name)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise RequestError("a CA's key is of P-256", "make one with certs new-key")
    return key.public_key()


def _require_new(key: ec.EllipticCurvePublicKey, fleet: FleetDirectory) -> None:
    used = [*fleet.issuing_certificates, fleet.certificate(FleetPart.ROOT_CERTIFICATE)]
    if any(key == one.public_key() for one in used):
        raise RequestError(
            "the key given is, or was, one of this CA", "make one with certs new-key"
        )


def _certificate_of(
    fleet: FleetDirectory, key: ec.EllipticCurvePublicKey
) -> x509.Certificate | None:
    found = fleet.issuing_certificates
    return next((one for one in found if one.public_key() == key), None)


def _renewed(certificate: x509.Certificate) -> Renewed:
    return Renewed(
        common_name(certificate),
        FleetPart.ISSUING_CERTIFICATE.value,
        certificate.not_valid_after_utc,
    )
