"""Who may be enrolled: proof of possession and no duplicates (reliability.md K10)."""

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs.authority import Authority
from certs.enrolment import Claim, Enrolled, VehicleKeys, enrol, enrolled_in
from certs.errors import ClaimError, DuplicateError
from certs.fleet import FleetDirectory
from certs.vehicle import random_vehicle_id
from protocol.enrolment import VehicleRecord, prove_possession
from protocol.errors import AuthenticationError, DecodeError
from protocol.identity import VehicleId
from protocol.keys import P256SigningKey

FLEET, OTHER_FLEET = bytes(range(16)), bytes(range(16, 32))

P = 2**255 - 19
_Y8 = (
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
)
_SIGN = 1 << 255

# eprint 2020/823, table 6: every encoding that OpenSSL loads as a small-order point.
SMALL_ORDER = [
    number.to_bytes(32, "little")
    for number in (
        *(0, 1, P - 1, *_Y8, P, P + 1),
        *(0 | _SIGN, 1 | _SIGN, (P - 1) | _SIGN, _Y8[0] | _SIGN, _Y8[1] | _SIGN),
        *(P | _SIGN, (P + 1) | _SIGN),
    )
]


class Car(NamedTuple):
    vehicle_id: VehicleId
    keys: VehicleKeys
    claim: Claim


def make_car(fleet_id: bytes = FLEET) -> Car:
    vehicle_id, keys = random_vehicle_id(), VehicleKeys.generate()
    return Car(vehicle_id, keys, keys.claim(vehicle_id, fleet_id=fleet_id))


@pytest.fixture
def enrolled() -> Enrolled:
    return Enrolled()


def admit(
    claim: Claim, authority: Authority, enrolled: Enrolled, now: datetime
) -> bytes:
    return enrol(claim, authority, enrolled, fleet_id=FLEET, now=now).record


def require_refused(
    claim: Claim, authority: Authority, now: datetime, reason: str
) -> None:
    enrolled = Enrolled()
    with pytest.raises(ClaimError, match=reason):
        admit(claim, authority, enrolled, now)
    assert enrolled == Enrolled()


def test_a_proved_claim_becomes_a_record_that_a_bridge_accepts(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    car = make_car()

    record = VehicleRecord.parse(
        admit(car.claim, authority, enrolled, now),
        fleet_id=FLEET,
        issuers=[authority.certificate],
    )

    assert record.vehicle_id == car.vehicle_id
    assert record.signing_key == car.keys.signing.verify_key
    assert record.sealing_key == car.keys.sealing.public_key()


def test_the_record_names_the_tls_certificate_that_was_signed_with_it(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    car = make_car()

    enrolment = enrol(car.claim, authority, enrolled, fleet_id=FLEET, now=now)

    record = VehicleRecord.parse(
        enrolment.record, fleet_id=FLEET, issuers=[authority.certificate]
    )
    fingerprint = enrolment.tls_certificate.fingerprint(SHA256()).hex()
    assert record.tls_fingerprint == fingerprint
    assert enrolment.tls_certificate.public_key() == car.keys.tls.public_key()


# --- proof of possession ------------------------------------------------------------


def test_a_claim_with_another_car_s_signing_key_is_refused(
    authority: Authority, now: datetime
) -> None:
    # FF-ENR-03.
    thief, victim = make_car(), make_car()
    claim = replace(thief.claim, signing_key=victim.claim.signing_key)

    require_refused(claim, authority, now, "BAD_SIGNATURE")


def test_a_claim_with_another_car_s_key_and_proof_is_refused(
    authority: Authority, now: datetime
) -> None:
    thief, victim = make_car(), make_car()
    claim = replace(
        thief.claim,
        signing_key=victim.claim.signing_key,
        sealing_key=victim.claim.sealing_key,
        proof=victim.claim.proof,
    )

    require_refused(claim, authority, now, "BAD_SIGNATURE")


def test_a_claim_with_another_sealing_key_than_the_proved_one_is_refused(
    authority: Authority, now: datetime
) -> None:
    car, other = make_car(), make_car()
    claim = replace(car.claim, sealing_key=other.claim.sealing_key)

    require_refused(claim, authority, now, "BAD_SIGNATURE")


def test_a_claim_made_for_another_fleet_is_refused(
    authority: Authority, now: datetime
) -> None:
    # FF-ENR-03.
    require_refused(make_car(OTHER_FLEET).claim, authority, now, "BAD_SIGNATURE")


@pytest.mark.parametrize("byte", [0, 31, 32, 63])
def test_a_flipped_bit_of_a_proof_is_refused(
    byte: int, authority: Authority, now: datetime
) -> None:
    claim = make_car().claim
    proof = bytearray(claim.proof)
    proof[byte] ^= 1

    require_refused(replace(claim, proof=bytes(proof)), authority, now, "not proved")


@pytest.mark.parametrize("raw", SMALL_ORDER, ids=lambda raw: raw.hex()[:8])
def test_none_of_the_fourteen_small_order_keys_is_enrolled(
    raw: bytes, authority: Authority, now: datetime
) -> None:
    # FF-ENR-04, FF-KEY-10.
    # With the identity point, R = s*B verifies for every message: no proof at all.
    car = make_car()
    claim = replace(car.claim, signing_key=raw)

    assert len(set(SMALL_ORDER)) == 14
    require_refused(claim, authority, now, "small order|not canonical")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_sealing_key_of_another_size_is_refused(
    size: int, authority: Authority, now: datetime
) -> None:
    vehicle_id, keys = random_vehicle_id(), VehicleKeys.generate()
    sealing = bytes(size)
    claim = replace(
        keys.claim(vehicle_id, fleet_id=FLEET),
        sealing_key=sealing,
        proof=prove_possession(
            keys.signing, fleet_id=FLEET, vehicle_id=vehicle_id, sealing_key=sealing
        ),
    )

    require_refused(claim, authority, now, "not proved")


def request(
    name: str, key: CertificateIssuerPrivateKeyTypes
) -> x509.CertificateSigningRequest:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, SHA256())


def test_a_tls_request_for_another_vehicle_is_refused(
    authority: Authority, now: datetime
) -> None:
    car, other = make_car(), make_car()
    claim = replace(car.claim, tls_request=other.claim.tls_request)

    require_refused(claim, authority, now, "not signed by its own")


def test_a_tls_request_that_its_key_did_not_sign_is_refused(
    authority: Authority, now: datetime
) -> None:
    car = make_car()
    der = bytearray(car.claim.tls_request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der))

    require_refused(
        replace(car.claim, tls_request=forged), authority, now, "not signed by its own"
    )


def test_a_tls_request_with_an_rsa_key_is_refused(
    authority: Authority, now: datetime
) -> None:
    car = make_car()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claim = replace(car.claim, tls_request=request(str(car.vehicle_id), key))

    require_refused(claim, authority, now, "P-256")


# --- duplicates ---------------------------------------------------------------------


def test_a_vehicle_id_is_enrolled_once(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    car = make_car()
    admit(car.claim, authority, enrolled, now)
    again = VehicleKeys.generate().claim(car.vehicle_id, fleet_id=FLEET)

    with pytest.raises(DuplicateError, match="is registered already"):
        admit(again, authority, enrolled, now)


def test_a_signing_key_is_enrolled_for_one_vehicle_only(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    # FF-ENR-05.
    car = make_car()
    admit(car.claim, authority, enrolled, now)
    twin = replace(VehicleKeys.generate(), signing=car.keys.signing)

    with pytest.raises(DuplicateError, match="signing key"):
        admit(twin.claim(random_vehicle_id(), fleet_id=FLEET), authority, enrolled, now)


def test_a_sealing_key_is_enrolled_for_one_vehicle_only(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    car = make_car()
    admit(car.claim, authority, enrolled, now)
    twin = replace(VehicleKeys.generate(), sealing=car.keys.sealing)

    with pytest.raises(DuplicateError, match="sealing key"):
        admit(twin.claim(random_vehicle_id(), fleet_id=FLEET), authority, enrolled, now)


def test_what_a_registry_takes_is_read_back_from_its_files(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    records = [admit(make_car().claim, authority, enrolled, now) for _ in range(3)]

    assert enrolled_in(records) == enrolled


def test_a_registry_file_with_swapped_certificates_frees_no_key(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    record = admit(make_car().claim, authority, enrolled, now)
    swapped = (
        record.replace(b"signing_certificate", b"x")
        .replace(b"sealing_certificate", b"signing_certificate")
        .replace(b'"x"', b'"sealing_certificate"')
    )

    with pytest.raises(DecodeError, match="other keys"):
        enrolled_in([swapped])


# --- the record, as a bridge sees it ------------------------------------------------


def test_a_record_of_another_fleet_is_refused(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    record = admit(make_car().claim, authority, enrolled, now)

    with pytest.raises(AuthenticationError, match="BAD_SIGNATURE"):
        VehicleRecord.parse(
            record, fleet_id=OTHER_FLEET, issuers=[authority.certificate]
        )


def test_a_record_signed_by_another_ca_is_refused(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    # FF-ENR-02.
    record = admit(make_car().claim, authority, enrolled, now)
    other = Authority.create_root("Other root CA 0badcafe", now=now)

    with pytest.raises(AuthenticationError, match="not issued by this fleet's CA"):
        VehicleRecord.parse(record, fleet_id=FLEET, issuers=[other.certificate])


def test_a_car_with_a_p256_signing_key_is_enrolled(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    # FF-ENR-03: its key lies in a TPM or a secure element without Ed25519.
    vehicle_id = random_vehicle_id()
    keys = replace(VehicleKeys.generate(), signing=P256SigningKey.generate())
    claim = keys.claim(vehicle_id, fleet_id=FLEET)

    record = admit(claim, authority, enrolled, now)

    read = VehicleRecord.parse(record, fleet_id=FLEET, issuers=[authority.certificate])
    assert read.signing_key == keys.signing.verify_key
    assert enrolled_in([record]).key_ids == {keys.signing.key_id}


def test_the_tls_key_is_not_enrolled_as_the_signing_key(
    authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    # FF-ENR-08: whoever speaks TLS with the car could make it sign a frame.
    keys = VehicleKeys.generate()
    both = replace(keys, signing=P256SigningKey(keys.tls))
    claim = both.claim(random_vehicle_id(), fleet_id=FLEET)

    with pytest.raises(ClaimError, match="one key for TLS and for frames"):
        admit(claim, authority, enrolled, now)
    assert enrolled == Enrolled()


def test_the_text_form_of_keys_shows_public_ids_only() -> None:
    keys = VehicleKeys.generate()

    signing = f"Ed25519SigningKey(key_id={keys.signing.key_id.hex()})"
    assert repr(keys) == f"VehicleKeys({signing})"


def test_a_fleet_s_own_id_is_what_proofs_are_bound_to(
    fleet: FleetDirectory, authority: Authority, enrolled: Enrolled, now: datetime
) -> None:
    claim = make_car(fleet.fleet.fleet_id).claim

    enrolment = enrol(
        claim, authority, enrolled, fleet_id=fleet.fleet.fleet_id, now=now
    )

    assert enrolment.vehicle_id == claim.vehicle_id
    assert isinstance(enrolment.tls_certificate.public_key(), ec.EllipticCurvePublicKey)
