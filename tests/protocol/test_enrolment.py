"""The record's own error branches; the PKI that writes records is tested in certs."""

import datetime as dt
import hashlib
import json
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from protocol.codes import Code
from protocol.enrolment import (
    RECORD_FORMAT,
    RECORD_LIMIT,
    ROTATIONS_LIMIT,
    VehicleRecord,
    grace_message,
    prove_possession,
)
from protocol.errors import AuthenticationError, DecodeError
from protocol.identity import VehicleId
from tests.gateway.uplink.key_holder import FakeKeyHolder
from tools.published_keys import (
    CAR_A,
    CAR_A_KEY,
    CAR_B,
    CAR_B_KEY,
    CAR_C_KEY,
    FLEET_ID,
    OTHER_FLEET_ID,
    sealing_key,
)

CA_KEY: Final = ec.derive_private_key(0xCA, ec.SECP256R1())
OTHER_CA_KEY: Final = ec.derive_private_key(0xCB, ec.SECP256R1())
CA_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
START: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

PublicKey = Ed25519PublicKey | X25519PublicKey | ec.EllipticCurvePublicKey


def _certify(
    key: PublicKey,
    name: x509.Name,
    *,
    by: ec.EllipticCurvePrivateKey = CA_KEY,
    issuer: x509.Name = CA_NAME,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(7)
        .not_valid_before(START)
        .not_valid_after(START + dt.timedelta(days=365))
        .sign(by, hashes.SHA256())
    )


def _name_of(vehicle_id: VehicleId) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(vehicle_id))])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


ISSUER: Final = _certify(CA_KEY.public_key(), CA_NAME)
SIGNING: Final = _certify(CAR_A_KEY.key.verify_key.handle, _name_of(CAR_A))
SEALING: Final = _certify(sealing_key().public_key(), _name_of(CAR_A))
FINGERPRINT: Final = hashlib.sha256(b"a TLS certificate").hexdigest()
PROOF: Final = prove_possession(
    CAR_A_KEY.key,
    fleet_id=FLEET_ID,
    vehicle_id=CAR_A,
    sealing_key=sealing_key().public_key().public_bytes_raw(),
).hex()


def _record(**changes: Any) -> bytes:
    fields = {
        "format": RECORD_FORMAT,
        "vehicle_id": str(CAR_A),
        "signing_certificate": _pem(SIGNING),
        "sealing_certificate": _pem(SEALING),
        "tls_fingerprint": FINGERPRINT,
        "proof": PROOF,
    }
    return json.dumps(fields | changes).encode()


def _refusal(data: bytes, *, fleet_id: bytes = FLEET_ID) -> Code:
    with pytest.raises((DecodeError, AuthenticationError)) as caught:
        VehicleRecord.parse(data, fleet_id=fleet_id, issuers=[ISSUER])
    error = caught.value
    assert isinstance(error, DecodeError | AuthenticationError)
    return error.code


def test_a_record_binds_a_vehicle_to_its_keys() -> None:
    record = VehicleRecord.parse(_record(), fleet_id=FLEET_ID, issuers=[ISSUER])

    assert record.vehicle_id == CAR_A
    assert record.signing_key == CAR_A_KEY.key.verify_key
    assert record.sealing_key == sealing_key().public_key()
    assert record.tls_fingerprint == FINGERPRINT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 5_000,
        b'{"format": "1"}',
        _record(vin="WVWZZZ"),
        _record(proof=None),
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    assert _refusal(data) is Code.BAD_PARAM


def test_a_record_of_a_later_format_is_refused_as_such() -> None:
    assert _refusal(_record(format=2)) is Code.UNSUPPORTED_SCHEMA


def test_a_record_beyond_the_limit_is_refused_unread() -> None:
    assert _refusal(b" " * (RECORD_LIMIT + 1)) is Code.TOO_LARGE


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("vehicle_id", "nobody", Code.BAD_PARAM),
        ("vehicle_id", str(CAR_B), Code.WRONG_VEHICLE),
        ("signing_certificate", "", Code.BAD_PARAM),
        ("signing_certificate", "-----BEGIN CERTIFICATE-----", Code.BAD_PARAM),
        ("sealing_certificate", "\u2028", Code.BAD_PARAM),
        ("proof", "zz", Code.BAD_PARAM),
        ("proof", PROOF[2:], Code.BAD_LEN),
        ("proof", PROOF.upper(), Code.BAD_LEN),
        ("proof", "00" * 64, Code.BAD_SIGNATURE),
        ("tls_fingerprint", FINGERPRINT[2:], Code.BAD_LEN),
        ("tls_fingerprint", "x" * 64, Code.BAD_PARAM),
    ],
)
def test_a_record_with_one_wrong_field_is_refused(
    field: str, value: str, code: Code
) -> None:
    # FF-ENR-01, FF-ENR-03.
    assert _refusal(_record(**{field: value})) is code


def test_a_proof_for_another_fleet_does_not_hold() -> None:
    # FF-ENR-03.
    # A record of the staging environment copied into production.
    assert _refusal(_record(), fleet_id=OTHER_FLEET_ID) is Code.BAD_SIGNATURE


def test_another_car_s_public_key_cannot_be_enrolled() -> None:
    # FF-ENR-03.
    # K10: whoever enrols must hold the private key.
    stolen = _certify(CAR_B_KEY.key.verify_key.handle, _name_of(CAR_A))

    code = _refusal(_record(signing_certificate=_pem(stolen)))

    assert code is Code.BAD_SIGNATURE


def test_a_certificate_of_another_ca_is_refused() -> None:
    # FF-ENR-02.
    for issuer in (CA_NAME, _name_of(CAR_B)):
        foreign = _certify(
            CAR_A_KEY.key.verify_key.handle,
            _name_of(CAR_A),
            by=OTHER_CA_KEY,
            issuer=issuer,
        )

        code = _refusal(_record(signing_certificate=_pem(foreign)))

        assert code is Code.BAD_SIGNATURE


def test_a_certificate_with_two_names_is_refused() -> None:
    # FF-ENR-01.
    names = x509.Name([*_name_of(CAR_A), *_name_of(CAR_B)])
    double = _certify(CAR_A_KEY.key.verify_key.handle, names)

    code = _refusal(_record(signing_certificate=_pem(double)))

    assert code is Code.WRONG_VEHICLE


def test_a_certificate_of_the_wrong_kind_of_key_is_refused() -> None:
    # FF-ENR-04.
    swapped = _record(signing_certificate=_pem(SEALING))
    twice = _record(sealing_certificate=_pem(SIGNING))

    assert _refusal(swapped) is Code.BAD_PARAM
    assert _refusal(twice) is Code.BAD_PARAM


def test_a_car_may_sign_with_p256() -> None:
    # FF-ENR-03, for the key of a secure element.
    sealing = sealing_key().public_key()
    proof = prove_possession(
        CAR_C_KEY.key,
        fleet_id=FLEET_ID,
        vehicle_id=CAR_A,
        sealing_key=sealing.public_bytes_raw(),
    )
    certificate = _certify(CAR_C_KEY.key.verify_key.handle, _name_of(CAR_A))
    data = _record(signing_certificate=_pem(certificate), proof=proof.hex())

    record = VehicleRecord.parse(data, fleet_id=FLEET_ID, issuers=[ISSUER])

    assert record.signing_key == CAR_C_KEY.key.verify_key
    assert _refusal(_record(signing_certificate=_pem(certificate))) is (
        Code.BAD_SIGNATURE
    )


def test_a_signing_key_of_another_curve_is_refused() -> None:
    # FF-ENR-04.
    other = ec.derive_private_key(7, ec.SECP384R1()).public_key()
    certificate = _certify(other, _name_of(CAR_A))

    assert _refusal(_record(signing_certificate=_pem(certificate))) is Code.BAD_PARAM


def test_a_weak_signing_key_is_refused_though_the_ca_certified_it() -> None:
    # FF-ENR-04, FF-KEY-10.
    weak = Ed25519PublicKey.from_public_bytes(bytes(32))
    certificate = _certify(weak, _name_of(CAR_A))

    code = _refusal(_record(signing_certificate=_pem(certificate)))

    assert code is Code.BAD_PARAM


def _der(data: bytes) -> str:
    import base64  # noqa: PLC0415 - here only

    body = base64.b64encode(data).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def test_a_certificate_of_an_unknown_version_or_algorithm_is_refused() -> None:
    der = SIGNING.public_bytes(Encoding.DER)
    version = bytes.fromhex("a003020102")
    ecdsa_sha256 = bytes.fromhex("06082a8648ce3d040302")
    assert version in der
    assert ecdsa_sha256 in der

    altered_version = der.replace(version, bytes.fromhex("a003020107"))
    altered_algorithm = der.replace(ecdsa_sha256, bytes.fromhex("06082a8648ce3d04037f"))

    first = _refusal(_record(signing_certificate=_der(altered_version)))
    second = _refusal(_record(signing_certificate=_der(altered_algorithm)))

    assert first is Code.BAD_PARAM
    assert second is Code.BAD_SIGNATURE


def test_every_altered_byte_of_a_certificate_is_refused_with_a_typed_error() -> None:
    der = SIGNING.public_bytes(Encoding.DER)

    for offset in range(len(der)):
        altered = bytearray(der)
        altered[offset] ^= 0x55
        _refusal(_record(signing_certificate=_der(bytes(altered))))


def test_a_key_that_the_library_does_not_know_is_refused() -> None:
    # A CA that certifies anything: the key's algorithm is replaced before it signs.
    template = _certify(
        Ed25519PrivateKey.from_private_bytes(CAR_A_KEY.seed).public_key(),
        _name_of(CAR_A),
    ).tbs_certificate_bytes
    ed25519 = bytes.fromhex("06032b6570")
    body = template.replace(ed25519, bytes.fromhex("06032b657f"))
    signature = CA_KEY.sign(body, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    bits = b"\x03" + bytes([len(signature) + 1, 0]) + signature
    inner = body + algorithm + bits
    size = len(inner).to_bytes((len(inner).bit_length() + 7) // 8, "big")
    der = bytes([0x30, 0x80 + len(size)]) + size + inner

    assert _refusal(_record(signing_certificate=_der(der))) is Code.BAD_PARAM


def test_a_grace_request_names_fleet_car_nonce_and_the_requests_hash() -> None:
    message = grace_message(FLEET_ID, CAR_A, bytes(32), b"request")

    assert message == (
        b"ff-grace-v1\0"
        + FLEET_ID
        + CAR_A.raw
        + bytes(32)
        + hashlib.sha256(b"request").digest()
    )


# -- after rotations ---


def _rotated(count: int) -> tuple[FakeKeyHolder, list[str]]:
    holder = FakeKeyHolder(CAR_A_KEY.key, vehicle_id=CAR_A, fleet_id=FLEET_ID)
    return holder, [holder.rotate().hex() for _ in range(count)]


def _present(key: PublicKey, vehicle_id: VehicleId = CAR_A, **by: Any) -> str:
    return _pem(_certify(key, _name_of(vehicle_id), **by))


@pytest.mark.parametrize("count", [1, 3])
def test_a_record_leads_from_the_first_key_to_the_present_one(count: int) -> None:
    # FF-ENR-23.
    holder, rotations = _rotated(count)
    present = _present(holder.key.verify_key.handle)
    data = _record(rotations=rotations, present_certificate=present)

    record = VehicleRecord.parse(data, fleet_id=FLEET_ID, issuers=[ISSUER])

    assert record.signing_key == CAR_A_KEY.key.verify_key
    assert record.present_key == holder.key.verify_key
    assert record.all_keys[0] == record.signing_key
    assert record.all_keys[-1] == record.present_key
    assert len(record.all_keys) == 1 + count
    for key in record.all_keys:
        assert record.key_named(key.key_id) == key
    assert record.key_named(bytes(8)) == record.present_key


def test_a_record_of_a_car_that_never_rotated_has_one_key() -> None:
    record = VehicleRecord.parse(_record(), fleet_id=FLEET_ID, issuers=[ISSUER])

    assert record.present_key == record.signing_key
    assert record.all_keys == (record.signing_key,)


def test_a_record_whose_rotations_and_present_certificate_differ_is_refused() -> None:
    # FF-ENR-23.
    holder, rotations = _rotated(2)
    handle = holder.key.verify_key.handle
    present = _present(handle)
    foreign = _present(handle, by=OTHER_CA_KEY)
    first = _present(CAR_A_KEY.key.verify_key.handle)
    curve = _present(ec.derive_private_key(5, ec.SECP384R1()).public_key())
    for changes, code in (
        ({"rotations": rotations}, Code.BAD_PARAM),
        ({"present_certificate": first}, Code.BAD_PARAM),
        ({"rotations": rotations, "present_certificate": first}, Code.BAD_PARAM),
        (
            {"rotations": rotations[:1], "present_certificate": present},
            Code.BAD_PARAM,
        ),
        (
            {"rotations": rotations[1:], "present_certificate": present},
            Code.UNKNOWN_KEY,
        ),
        (
            {"rotations": rotations, "present_certificate": foreign},
            Code.BAD_SIGNATURE,
        ),
        (
            {
                "rotations": rotations,
                "present_certificate": _present(handle, CAR_B),
            },
            Code.WRONG_VEHICLE,
        ),
        ({"rotations": rotations, "present_certificate": curve}, Code.BAD_PARAM),
        ({"rotations": ["zz"], "present_certificate": present}, Code.BAD_PARAM),
        (
            {"rotations": [rotations[0]] * (ROTATIONS_LIMIT + 1)},
            Code.BAD_PARAM,
        ),
    ):
        assert _refusal(_record(**changes)) is code, changes
