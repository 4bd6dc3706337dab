"""``freefloat certs audit``: each fault planted, and one clean fleet."""

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.audit_log import Severity
from certs.authority import new_tls_key
from certs.books import Voucher
from certs.finding import Finding, Weight
from certs.fleet import FleetDirectory, root_part
from certs.fleet_audit import audit_fleet
from certs.profiles import Kind
from certs.revocation import publish_list, revoke_vehicle
from certs.rollover import NEW_KEY, prepare, switch
from certs.trust import new_signing_key
from certs.trust_change import add_signer, granted, revoke_key
from certs.trust_files import TrustFiles
from certs.vehicle import IssuedVehicle, issue_vehicles, random_vehicle_id
from certs.voucher import make_claim
from keystore.private_key import open_private_key
from keystore.signer import open_signing_key
from protocol.codes import Role
from protocol.enrolment import RecordFile
from protocol.fleet import FleetPart
from protocol.keyfile import build_key

DAY = timedelta(days=1)


def checks(found: list[Finding], weight: Weight = Weight.ACT) -> list[str]:
    return [one.check for one in found if one.weight is weight]


def only(fleet: FleetDirectory, now: datetime, check: str) -> Finding:
    """The one kind of fault that was planted, and nothing else to do."""
    found = audit_fleet(fleet, now=now)
    assert set(checks(found)) == {check}, found
    return next(one for one in found if one.check == check)


def test_a_clean_fleet_needs_nothing(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    with closing(fleet.books()) as books:
        publish_list(fleet, books, fleet.issuing_authority(), now=now)
        make_claim(fleet, books, vehicle_id=random_vehicle_id(), now=now)

    found = audit_fleet(fleet, now=now + DAY)

    assert checks(found) == []
    assert set(checks(found, Weight.NOTE)) == {"keep_offline"}
    assert vehicle.tls_expires > now + DAY


def test_every_finding_says_what_to_do_next(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    found = audit_fleet(fleet, now=now + 400 * DAY)

    assert len(found) > 8
    assert all(one.advice for one in found)
    assert all(one.days is not None for one in found if "end" in one.check)
    assert vehicle.tls_expires < now + 400 * DAY


# --- what ends ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "subject"),
    [(370, "broker/tls.crt"), (4 * 365 + 200, "ca/issuing.crt")],
)
def test_a_certificate_that_ends_is_named_before_it_does(
    days: int, subject: str, fleet: FleetDirectory, now: datetime
) -> None:
    found = audit_fleet(fleet, now=now + days * DAY)

    ends = {one.subject: one for one in found if one.check == "certificate_ends"}
    assert "freefloat certs renew" in ends[subject].advice
    assert ends[subject].days is not None


def test_a_root_is_named_two_years_ahead(fleet: FleetDirectory, now: datetime) -> None:
    found = audit_fleet(fleet, now=now + 18 * 365 * DAY + 10 * DAY)

    assert any(
        one.subject == "ca/root.crt" and "roll-root" in one.advice for one in found
    )


def test_a_bundle_and_its_signers_are_named_before_they_end(
    fleet: FleetDirectory, now: datetime
) -> None:
    early = audit_fleet(fleet, now=now + 340 * DAY)
    late = audit_fleet(fleet, now=now + 370 * DAY)

    assert checks(early) == ["bundle_ends"]
    assert checks(late).count("signer_ends") == 2


@pytest.mark.parametrize(
    ("days", "finding"),
    [
        (12, ("vehicle_late", Weight.NOTE)),
        (100, ("vehicle_garaged", Weight.NOTE)),
        (195, ("vehicle_past_grace", Weight.ACT)),
    ],
)
def test_a_vehicle_that_did_not_renew_is_named(
    days: int,
    finding: tuple[str, Weight],
    fleet: FleetDirectory,
    vehicle: IssuedVehicle,
    now: datetime,
) -> None:
    found = audit_fleet(fleet, now=now + days * DAY)

    about = [one for one in found if one.subject == str(vehicle.vehicle_id)]
    assert [(one.check, one.weight) for one in about] == [finding]


def test_a_revocation_list_is_due_at_half_of_its_life(
    fleet: FleetDirectory, now: datetime
) -> None:
    # Row 35 (list expired): said days before.
    # L5: one that has ended locks every car out of some brokers.
    with closing(fleet.books()) as books:
        publish_list(fleet, books, fleet.issuing_authority(), now=now)

    assert checks(audit_fleet(fleet, now=now + 3 * DAY)) == []
    assert "half over" in only(fleet, now + 4 * DAY, "list_old").detail
    assert "is over" in only(fleet, now + 8 * DAY, "list_old").detail


def test_a_damaged_revocation_list_is_named(
    fleet: FleetDirectory, now: datetime
) -> None:
    # Row 35 (list broken).
    (fleet.path / FleetPart.REVOCATION_LIST).write_bytes(b"-----BEGIN X509 CRL-----")

    assert "cannot be read" in only(fleet, now, "list_damaged").detail


# --- what is shared -----------------------------------------------------------------


def test_one_tls_key_under_two_names_is_named(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    # K1, Device Defender: shared certificate.
    other = issue_vehicles(fleet, [random_vehicle_id()], now=now)[0]
    key = open_private_key(vehicle.directory / "tls.key")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    leaf = fleet.issuing_authority().issue(
        Kind.VEHICLE_TLS, str(other.vehicle_id), key.public_key(), now=now
    )
    with closing(fleet.books()) as books:
        books.add_issued(other.vehicle_id, leaf, how="enroll", now=now)

    found = only(fleet, now, "key_shared")

    assert str(vehicle.vehicle_id) in found.subject
    assert str(other.vehicle_id) in found.subject


def test_one_key_for_bridge_and_engineer_is_named(
    fleet: FleetDirectory, now: datetime
) -> None:
    key = open_private_key(fleet.path / "bridge/1/tls.key")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    leaf = fleet.issuing_authority().issue(
        Kind.ENGINEER, "ff-engineer-1", key.public_key(), now=now
    )
    (fleet.path / "engineer/1/tls.crt").write_bytes(fleet.chain(leaf))

    assert "ff-bridge-1" in only(fleet, now, "key_shared").subject


def test_one_key_for_two_uses_of_one_vehicle_is_named(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    key = open_private_key(vehicle.directory / "tls.key")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signing = fleet.issuing_authority().issue(
        Kind.VEHICLE_SIGNING, str(vehicle.vehicle_id), key.public_key(), now=now
    )
    change_record(fleet, vehicle, signing_certificate=pem(signing))

    found = audit_fleet(fleet, now=now)

    assert "key_in_two_roles" in checks(found)


def test_one_signer_for_two_replicas_is_named(
    fleet: FleetDirectory, now: datetime
) -> None:
    shutil.copy(fleet.path / FleetPart.COMMAND_KEY, fleet.path / "signer/command-2.key")

    found = only(fleet, now, "signer_shared")

    assert found.subject == "signer/command-1.key and signer/command-2.key"


def test_a_root_that_is_a_signer_is_named(fleet: FleetDirectory, now: datetime) -> None:
    files = TrustFiles(fleet)
    roots = tuple(
        open_signing_key(fleet.path / root_part(number, "key")) for number in (1, 2, 3)
    )
    current = files.current()
    grant = granted(roots[0].verify_key.raw, Role.RENTAL, now=now)
    change = replace(current, version=2, keys=(*current.keys, grant))
    files.propose(change, roots)

    assert "root and a signer" in only(fleet, now, "key_in_two_roles").detail


def test_a_vehicle_that_signs_with_a_key_of_the_fleet_is_named(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    """A car that holds a command key could command every other one."""
    command = open_signing_key(fleet.path / FleetPart.COMMAND_KEY)
    signing = fleet.issuing_authority().issue(
        Kind.VEHICLE_SIGNING,
        str(vehicle.vehicle_id),
        command.verify_key.handle,
        now=now,
    )
    change_record(fleet, vehicle, signing_certificate=pem(signing))

    (found,) = (one for one in audit_fleet(fleet, now=now) if one.check == "key_shared")

    assert str(vehicle.vehicle_id) in found.subject
    assert command.key_id.hex() in found.subject


def test_a_revoked_signer_that_is_still_here_is_named(
    fleet: FleetDirectory, now: datetime
) -> None:
    files, key = TrustFiles(fleet), new_signing_key()
    roots = tuple(
        open_signing_key(fleet.path / root_part(number, "key")) for number in (1, 2, 3)
    )
    grant = granted(key.verify_key.raw, Role.RENTAL, now=now)
    files.propose(add_signer(files.current(), grant, now=now), roots)
    files.propose(revoke_key(files.current(), key.key_id, now=now), roots)
    path = fleet.path / "signer/command-2.key"
    path.write_bytes(build_key(key.handle))
    path.chmod(0o600)

    assert only(fleet, now, "signer_revoked").subject == "signer/command-2.key"


def test_two_claims_of_one_device_are_named(
    fleet: FleetDirectory, now: datetime
) -> None:
    with closing(fleet.books()) as books:
        for number in range(2):
            books.add_voucher(
                Voucher(
                    bytes([number]) * 32,
                    random_vehicle_id(),
                    "SN-1",
                    now,
                    now + DAY,
                    None,
                    None,
                )
            )

    assert only(fleet, now, "claim_shared").subject == "serial number SN-1"


# --- what is weak -------------------------------------------------------------------


def forged(
    fleet: FleetDirectory,
    name: str,
    key: rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | Ed25519PublicKey
    | X25519PublicKey,
    now: datetime,
    *,
    days: int = 14,
    is_ca: bool = False,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
) -> x509.Certificate:
    """A certificate that this authority's code would refuse to make."""
    authority = fleet.issuing_authority()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def change_record(
    fleet: FleetDirectory, vehicle: IssuedVehicle, **changes: str
) -> None:
    path = fleet.record_path(vehicle.vehicle_id)
    record = msgspec.json.decode(path.read_bytes(), type=RecordFile)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **changes)))


Plant = Callable[[FleetDirectory, str, datetime], x509.Certificate]

WEAK: dict[str, tuple[str, Plant]] = {
    "RSA of 2,048 bits": (
        "weak_key",
        lambda fleet, name, now: forged(
            fleet, name, rsa.generate_private_key(65537, 2048).public_key(), now
        ),
    ),
    "another curve": (
        "weak_key",
        lambda fleet, name, now: forged(
            fleet, name, ec.generate_private_key(ec.SECP384R1()).public_key(), now
        ),
    ),
    "CA:TRUE": (
        "leaf_is_ca",
        lambda fleet, name, now: forged(
            fleet, name, new_tls_key().public_key(), now, is_ca=True
        ),
    ),
    "for servers": (
        "wrong_usage",
        lambda fleet, name, now: forged(
            fleet,
            name,
            new_tls_key().public_key(),
            now,
            usage=ExtendedKeyUsageOID.SERVER_AUTH,
        ),
    ),
    "for anything": (
        "wrong_usage",
        lambda fleet, name, now: forged(
            fleet, name, new_tls_key().public_key(), now, usage=None
        ),
    ),
    "of 90 days": (
        "long_life",
        lambda fleet, name, now: forged(
            fleet, name, new_tls_key().public_key(), now, days=90
        ),
    ),
}


@pytest.mark.parametrize("case", WEAK)
def test_a_vehicle_s_certificate_against_its_template_is_named(
    case: str, fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    check, plant = WEAK[case]
    leaf = plant(fleet, str(vehicle.vehicle_id), now)
    (vehicle.directory / "tls.crt").write_bytes(pem(leaf).encode())

    assert only(fleet, now, check).subject.endswith("tls.crt")


def test_a_certificate_signed_with_sha1_is_named(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    # No library signs with it any more: one from the bytes of a good certificate.
    leaf = fleet.certificate(f"vehicles/{vehicle.vehicle_id}/tls.crt")
    sha256, sha1 = (
        bytes.fromhex("300a06082a8648ce3d040302"),
        bytes.fromhex("300906072a8648ce3d0401"),
    )
    old = shortened(leaf.public_bytes(Encoding.DER), sha256, sha1)
    weak = x509.load_der_x509_certificate(old)
    (vehicle.directory / "tls.crt").write_bytes(pem(weak).encode())

    assert "SHA1" in only(fleet, now, "weak_signature").detail


def shortened(der: bytes, old: bytes, new: bytes) -> bytes:
    """A certificate with another signature algorithm, its lengths put right."""
    assert der[:2] == b"\x30\x82"
    inner = der[4:]
    assert inner[:2] == b"\x30\x82"
    size = int.from_bytes(inner[2:4], "big")
    signed, rest = inner[4 : 4 + size], inner[4 + size :]
    signed = signed.replace(old, new, 1)
    rest = rest.replace(old, new, 1)
    body = b"\x30\x82" + len(signed).to_bytes(2, "big") + signed + rest
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    "raw",
    [
        (1).to_bytes(32, "little"),
        # A point of the large order and one of small order, added (ed25519-speccheck).
        bytes.fromhex(
            "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d"
        ),
    ],
    ids=["small order", "mixed order"],
)
def test_a_weak_signing_key_in_the_registry_is_named(
    raw: bytes, fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    key = Ed25519PublicKey.from_public_bytes(raw)
    weak = forged(fleet, str(vehicle.vehicle_id), key, now, usage=None)
    change_record(fleet, vehicle, signing_certificate=pem(weak))

    found = audit_fleet(fleet, now=now)

    assert "weak_key" in checks(found)


def test_a_sealing_key_of_small_order_is_named(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    key = X25519PublicKey.from_public_bytes(bytes(32))
    weak = forged(fleet, str(vehicle.vehicle_id), key, now, usage=None)
    change_record(fleet, vehicle, sealing_certificate=pem(weak))

    found = audit_fleet(fleet, now=now)

    assert "weak_key" in checks(found)


@pytest.mark.parametrize("part", [FleetPart.COMMAND_KEY, FleetPart.BOOKS])
def test_a_private_file_that_others_can_read_is_named(
    part: FleetPart, fleet: FleetDirectory, now: datetime
) -> None:
    (fleet.path / part).chmod(0o644)

    found = audit_fleet(fleet, now=now)

    assert "open_file" in checks(found)


# --- what is active -----------------------------------------------------------------


def test_a_withdrawn_vehicle_that_is_back_in_the_registry_is_named(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    revoke_vehicle(fleet, vehicle.vehicle_id, now=now)
    shutil.copy(
        fleet.revoked_path(vehicle.vehicle_id), fleet.record_path(vehicle.vehicle_id)
    )

    assert only(fleet, now, "revoked_active").subject == str(vehicle.vehicle_id)


def test_a_withdrawn_vehicle_that_is_not_on_the_list_is_named(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    revoke_vehicle(fleet, vehicle.vehicle_id, now=now)
    (fleet.path / FleetPart.REVOCATION_LIST).unlink()

    assert "not on the revocation list" in only(fleet, now, "revoked_active").detail


def test_an_old_root_that_is_trusted_for_too_long_is_named(
    fleet: FleetDirectory, now: datetime
) -> None:
    prepare(fleet, open_private_key(fleet.path / FleetPart.ROOT_KEY), now=now)
    switch(fleet, open_private_key(fleet.path / NEW_KEY), now=now)

    assert checks(audit_fleet(fleet, now=now + 29 * DAY)) == []
    found = only(fleet, now + 31 * DAY, "old_root_trusted")
    assert "roll-root finish" in found.advice


def test_a_foreign_root_among_the_anchors_is_named(
    fleet: FleetDirectory, now: datetime
) -> None:
    path = fleet.path / FleetPart.TRUST_ANCHORS
    path.write_bytes(path.read_bytes() + pem(fleet.issuing_certificate).encode())

    assert "1 roots are trusted beside" in only(fleet, now, "old_root_trusted").detail


def test_alarms_of_the_last_week_are_counted(
    fleet: FleetDirectory, now: datetime
) -> None:
    for days in (1, 2, 20):
        fleet.audit_log.write(
            Severity.ALARM, "claim_reused", now=now - days * DAY, vehicle_id="X"
        )
    fleet.audit_log.write(Severity.NOTE, "enrolled", now=now)

    assert "claim_reused, 2 times" in only(fleet, now, "alarm").detail


@pytest.mark.parametrize(
    "part", ["broker/tls.crt", "trust/bundle-1.bin", "ca/trust-anchors.pem"]
)
def test_what_cannot_be_read_is_named_and_hides_nothing(
    part: str, fleet: FleetDirectory, now: datetime
) -> None:
    (fleet.path / part).write_bytes(b"?")
    os.chmod(fleet.path / FleetPart.COMMAND_KEY, 0o644)  # noqa: PTH101 - plain

    found = checks(audit_fleet(fleet, now=now))

    assert "unreadable" in found
    assert "open_file" in found
