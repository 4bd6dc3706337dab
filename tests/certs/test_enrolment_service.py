"""Enrolment and renewal over HTTPS: real TLS on loopback (reliability.md K9, K10)."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs.authority import common_name, new_tls_key
from certs.enrolment import VehicleKeys
from certs.fleet import FleetDirectory
from certs.profiles import VEHICLE_TLS_LIFETIME
from certs.renewal_rules import DAILY_LIMIT, GRACE_PERIOD
from certs.revocation import read_list, revoke_vehicle
from certs.vehicle import random_vehicle_id
from protocol.enrolment import VehicleRecord
from protocol.fleet import FleetPart, TlsPart
from tests.broker.client_certificates import TABLE
from tests.broker.pki import Pki
from tests.certs.office import Device, Office, open_office, real_now, text, tls_request

pytestmark = pytest.mark.broker

DAY = timedelta(days=1)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = real_now() - 30 * DAY
    fleet = FleetDirectory.create(tmp_path / "fleet", name="Office", now=made)
    with open_office(fleet) as office:
        yield office


@pytest.fixture
def device(office: Office, tmp_path: Path) -> Device:
    folder = tmp_path / "device"
    folder.mkdir()
    return Device(office, folder)


@pytest.fixture
def enrolled(device: Device) -> Device:
    assert device.enroll(device.office.claim(device.vehicle_id)).status == 200
    return device


# --- enrolment ----------------------------------------------------------------------


def test_a_device_with_a_claim_is_enrolled_and_its_record_is_that_of_certs_issue(
    office: Office, device: Device
) -> None:
    # FF-ENR-07, K10
    answer = device.enroll(office.claim(device.vehicle_id))

    assert answer.status == 200, answer.body
    record = office.fleet.vehicle_record(device.vehicle_id)
    assert record.signing_key == device.keys.signing.verify_key
    assert common_name(answer.certificate) == str(device.vehicle_id)
    assert answer.certificate.public_key() == device.keys.tls.public_key()
    assert answer.certificate.not_valid_after_utc - real_now() <= VEHICLE_TLS_LIFETIME
    kept = office.fleet.record_path(device.vehicle_id).read_bytes()
    assert answer.body["record"] == text(kept)
    assert isinstance(
        VehicleRecord.parse(
            kept,
            fleet_id=office.fleet.fleet.fleet_id,
            issuers=[office.fleet.issuing_certificate],
        ),
        VehicleRecord,
    )
    assert [one.event for one in office.events()] == ["enrolled"]


def test_the_same_device_gets_the_same_answer_again_as_the_first_may_be_lost(
    office: Office, device: Device
) -> None:
    claim = office.claim(device.vehicle_id)

    first, second = device.enroll(claim), device.enroll(claim)

    assert second.status == 200
    assert second.body["certificate"] == first.body["certificate"]
    assert second.body["record"] == first.body["record"]
    assert office.alarms() == []


def test_a_used_claim_enrols_no_second_device_and_is_alarmed(
    office: Office, device: Device, tmp_path: Path
) -> None:
    # FF-ENR-06
    claim = office.claim(device.vehicle_id)
    device.enroll(claim)
    thief = Device(office, tmp_path, device.vehicle_id)

    answer = thief.enroll(claim)

    assert (answer.status, answer.error) == (401, "claim_invalid")
    assert office.alarms() == ["claim_reused"]


@pytest.mark.parametrize("case", ["unknown", "another vehicle's", "over", "no serial"])
def test_a_claim_that_does_not_hold_gets_one_answer_and_an_alarm(
    case: str, office: Office, device: Device
) -> None:
    # K10: whoever guesses cannot tell one from another.
    claim = office.claim(device.vehicle_id, serial="SN-1" if "serial" in case else "")
    if case == "unknown":
        claim = "FF-" + "A" * 32
    if case == "another vehicle's":
        device.vehicle_id = random_vehicle_id()
    if case == "over":
        office.shift = timedelta(days=8)

    answer = device.enroll(claim)

    assert (answer.status, answer.error) == (401, "claim_invalid")
    assert answer.body["detail"] == "the claim does not hold for this vehicle"
    assert len(office.alarms()) == 1
    assert office.fleet.vehicle_ids() == []


def test_a_claim_for_a_serial_number_wants_that_very_number(
    office: Office, device: Device
) -> None:
    claim = office.claim(device.vehicle_id, serial="SN-1")

    assert device.enroll(claim, serial="SN-2").status == 401
    assert device.enroll(claim, serial="SN-1").status == 200


def test_a_claim_is_kept_as_a_hash_and_stands_in_no_file(
    office: Office, device: Device
) -> None:
    # K2
    claim = office.claim(device.vehicle_id)
    device.enroll(claim)

    files = [path for path in office.fleet.path.rglob("*") if path.is_file()]

    assert [path for path in files if claim.encode() in path.read_bytes()] == []


def test_a_copied_signing_key_is_refused_and_alarmed(
    office: Office, enrolled: Device, tmp_path: Path
) -> None:
    other = Device(office, tmp_path)
    other.keys = VehicleKeys(new_tls_key(), enrolled.keys.signing, other.keys.sealing)

    answer = other.enroll(office.claim(other.vehicle_id))

    assert (answer.status, answer.error) == (409, "registered_already")
    assert office.alarms() == ["duplicate"]
    assert office.fleet.vehicle_ids() == [enrolled.vehicle_id]


def test_a_copied_tls_key_is_refused_and_alarmed(
    office: Office, enrolled: Device, tmp_path: Path
) -> None:
    # K1: no two vehicles share a TLS key.
    other = Device(office, tmp_path)
    other.keys = VehicleKeys(enrolled.keys.tls, other.keys.signing, other.keys.sealing)

    answer = other.enroll(office.claim(other.vehicle_id))

    assert answer.status == 409
    assert "duplicate_tls_key" in office.alarms()


def test_a_key_without_proof_is_refused_and_the_claim_stays_good(
    office: Office, device: Device
) -> None:
    claim = office.claim(device.vehicle_id)

    answer = device.enroll(claim, proof=text(bytes(64)))

    assert (answer.status, answer.error) == (400, "request_refused")
    assert office.alarms() == ["not_proved"]
    assert device.enroll(claim).status == 200


def test_a_small_order_signing_key_is_refused(office: Office, device: Device) -> None:
    identity_point = (1).to_bytes(32, "little")

    answer = device.enroll(
        office.claim(device.vehicle_id), signing_key=text(identity_point)
    )

    assert (answer.status, answer.error) == (400, "request_refused")


@pytest.mark.parametrize(
    "name",
    [
        "CAR1/cmd",
        "+",
        "#",
        "2ikz3icpo6wdlgq2qwqyyj2c4e",
        "2IKZ3ICPO6WDLGQ2QWQYYJ2C4F",
        "ff-bridge-1",
        "ff-broker",
        "ff-engineer-1",
    ],
)
def test_no_path_certifies_a_name_that_is_no_vehicle_id(
    name: str, office: Office, enrolled: Device
) -> None:
    # L7, K6, FF-ENR-18: as the id that is asked for, and as the CN of the request.
    before = office.fleet.vehicle_ids()
    request, _key = tls_request(name)
    claim = "FF-" + "A" * 32

    answers = [
        office.post("/v1/enroll", enrolled.body(claim, vehicle_id=name)),
        office.post("/v1/enroll", enrolled.body(claim, tls_request=text(request))),
        enrolled.reenroll(name=name),
        office.post(
            "/v1/grace",
            enrolled.grace_body(enrolled.nonce()) | {"tls_request": text(request)},
        ),
        office.post("/v1/grace/nonce", {"format": 1, "vehicle_id": name}),
    ]

    assert [answer.status for answer in answers] == [400, 400, 400, 401, 400]
    assert office.fleet.vehicle_ids() == before


def test_a_request_of_another_curve_is_refused(office: Office, device: Device) -> None:
    request, _key = tls_request(
        str(device.vehicle_id), ec.generate_private_key(ec.SECP384R1())
    )

    answer = device.enroll(office.claim(device.vehicle_id), tls_request=text(request))

    assert (answer.status, answer.error) == (400, "request_refused")


# --- renewal ------------------------------------------------------------------------


def test_a_car_renews_by_its_certificate_again_and_again(
    office: Office, enrolled: Device
) -> None:
    serials = {enrolled.reenroll().certificate.serial_number for _ in range(3)}

    assert len(serials) == 3
    assert office.alarms() == []


def test_a_lost_answer_is_given_again_for_the_same_key(enrolled: Device) -> None:
    key, old = new_tls_key(), [path.read_bytes() for path in enrolled.identity]
    first = enrolled.reenroll(key=key)
    for path, data in zip(enrolled.identity, old, strict=True):
        path.write_bytes(data)

    second = enrolled.reenroll(key=key)

    assert first.body["certificate"] == second.body["certificate"]


def test_a_renewal_without_a_certificate_or_with_the_old_key_is_refused(
    office: Office, enrolled: Device
) -> None:
    # FF-ENR-19
    request, _key = tls_request(str(enrolled.vehicle_id))
    bare = office.post("/v1/reenroll", {"format": 1, "tls_request": text(request)})
    same = enrolled.reenroll(key=enrolled.keys.tls)

    assert (bare.status, bare.error) == (401, "certificate_required")
    assert (same.status, same.error) == (400, "key_reused")


@pytest.mark.parametrize("part", [FleetPart.BRIDGE, FleetPart.ENGINEER])
def test_another_client_of_the_fleet_gets_no_vehicle_certificate(
    part: FleetPart, office: Office, enrolled: Device
) -> None:
    directory = office.fleet.path / part
    request, _key = tls_request(str(enrolled.vehicle_id))

    answer = office.post(
        "/v1/reenroll",
        {"format": 1, "tls_request": text(request)},
        identity=(directory / TlsPart.CERTIFICATE, directory / TlsPart.KEY),
    )

    assert (answer.status, answer.error) == (403, "not_registered")
    assert office.alarms() == ["no_vehicle"]


@pytest.mark.parametrize("shown", TABLE)
def test_a_client_gets_no_connection_whose_certificate_is(
    shown: str, office: Office, tmp_path: Path
) -> None:
    """K4, on the office's HTTPS; tests/broker/test_admission has the brokers'."""
    name = str(random_vehicle_id())
    pki = Pki.of_fleet(tmp_path / "pki", office.fleet, now=real_now())
    identity = TABLE[shown](pki, name)
    request, _key = tls_request(name)
    body = {"format": 1, "tls_request": text(request)}

    if identity is None:
        # TLS takes it, as the first enrolment and the grace path have none to show.
        answer = office.post("/v1/reenroll", body)
        assert (answer.status, answer.error) == (401, "certificate_required")
        return
    with pytest.raises((ssl.SSLError, ConnectionError)):
        office.post("/v1/reenroll", body, identity=(identity.certificate, identity.key))


def test_there_is_no_answer_without_tls(office: Office) -> None:
    """K5: one listener, and no fallback."""
    with socket.create_connection(("127.0.0.1", office.port), 20) as plain:
        plain.sendall(b"GET /v1/cacerts HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = plain.recv(64)

    assert not answer.startswith(b"HTTP/")


def test_a_certificate_in_order_is_let_in_and_the_registry_decides(
    office: Office, tmp_path: Path
) -> None:
    """K4: as the table's; but a name in no registry gets nothing all the same."""
    name = str(random_vehicle_id())
    identity = Pki.of_fleet(tmp_path / "pki", office.fleet, now=real_now()).issue(name)
    request, _key = tls_request(name)

    answer = office.post(
        "/v1/reenroll",
        {"format": 1, "tls_request": text(request)},
        identity=(identity.certificate, identity.key),
    )

    assert (answer.status, answer.error) == (403, "not_registered")


def test_the_authority_s_own_clock_decides_about_dates(
    office: Office, enrolled: Device
) -> None:
    office.shift = VEHICLE_TLS_LIFETIME + timedelta(minutes=1)

    answer = enrolled.reenroll()

    assert (answer.status, answer.error) == (401, "certificate_required")
    assert "grace" in answer.body["advice"]


def test_a_loop_of_renewals_is_stopped_for_the_day(enrolled: Device) -> None:
    answers = [enrolled.reenroll() for _ in range(DAILY_LIMIT)]

    assert [one.status for one in answers] == [200] * (DAILY_LIMIT - 1) + [429]
    assert answers[-1].retry_after == "3600"


# --- grace --------------------------------------------------------------------------


def test_a_garaged_car_renews_by_its_signing_key_when_its_certificate_is_over(
    office: Office, enrolled: Device
) -> None:
    # FF-ENR-11, K9
    office.shift = VEHICLE_TLS_LIFETIME + 100 * DAY

    assert enrolled.grace().status == 200


def test_grace_ends_and_a_person_can_extend_it(
    office: Office, enrolled: Device
) -> None:
    office.shift = VEHICLE_TLS_LIFETIME + GRACE_PERIOD + timedelta(minutes=1)
    late = enrolled.grace()
    books = office.fleet.books()
    books.extend_grace(enrolled.vehicle_id, until=office.now() + DAY)
    books.close()

    assert (late.status, late.error) == (403, "grace_over")
    assert enrolled.grace().status == 200


def test_a_nonce_is_good_once_for_one_vehicle_and_two_minutes(
    office: Office, enrolled: Device, tmp_path: Path
) -> None:
    # FF-ENR-20
    nonce = enrolled.nonce()
    body = enrolled.grace_body(nonce)
    other = Device(office, tmp_path)

    assert office.post("/v1/grace", body).status == 200
    replay = office.post("/v1/grace", body)
    foreign = enrolled.grace(other.nonce())
    made_up = enrolled.grace(bytes(32))
    old = enrolled.nonce()
    office.shift = timedelta(seconds=121)

    for answer in (replay, foreign, made_up, enrolled.grace(old)):
        assert (answer.status, answer.error) == (401, "nonce_invalid")


def test_an_unknown_vehicle_and_a_wrong_signature_are_one_answer(
    office: Office, enrolled: Device, tmp_path: Path
) -> None:
    # FF-ENR-21
    stranger = Device(office, tmp_path).grace()
    forged = office.post(
        "/v1/grace",
        enrolled.grace_body(
            enrolled.nonce(), alter=lambda one: one[:-1] + bytes([one[-1] ^ 1])
        ),
    )

    assert stranger.status == forged.status == 401
    assert stranger.body == forged.body
    assert stranger.error == "not_proved"


# --- revocation ---------------------------------------------------------------------


def test_a_revoked_vehicle_gets_nothing_by_any_path(
    office: Office, enrolled: Device
) -> None:
    # FF-ENR-10, K8
    done = revoke_vehicle(office.fleet, enrolled.vehicle_id, now=real_now())

    renewal, grace = enrolled.reenroll(), enrolled.grace()

    assert done.certificates == 1
    assert (renewal.status, renewal.error) == (403, "revoked")
    assert (grace.status, grace.error) == (403, "revoked")
    assert office.fleet.vehicle_ids() == []
    assert office.fleet.revoked_ids() == [enrolled.vehicle_id]
    assert office.alarms() == ["revoked_asks"] * 2


def test_the_running_certificates_of_a_revoked_vehicle_stand_in_the_list(
    office: Office, enrolled: Device
) -> None:
    last = enrolled.reenroll().certificate

    revoke_vehicle(office.fleet, enrolled.vehicle_id, now=real_now())

    found = read_list(office.fleet)
    assert found is not None
    assert len(list(found)) == 2
    assert (
        found.get_revoked_certificate_by_serial_number(last.serial_number) is not None
    )


def test_neither_id_nor_keys_of_a_revoked_vehicle_are_enrolled_again(
    office: Office, enrolled: Device, tmp_path: Path
) -> None:
    revoke_vehicle(office.fleet, enrolled.vehicle_id, now=real_now())
    again = Device(office, tmp_path, keys=enrolled.keys)

    answer = again.enroll(office.claim(again.vehicle_id))

    assert answer.status == 409


# --- bodies -------------------------------------------------------------------------


def test_the_anchors_are_for_everybody(office: Office) -> None:
    answer = office.post("/v1/cacerts", b"", method="GET")

    assert answer.status == 200
    assert (len(answer.body["anchors"]), len(answer.body["chain"])) == (1, 1)
    assert answer.body["links"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b'{"format": 2, "tls_request": ""}', 400),
        (b'{"format": 1}', 400),
        (b'{"format": 1, "tls_request": "!"}', 400),
        (b'{"format": 1, "tls_request": "AAAA"}', 400),
        (b" " * 65_537, 413),
    ],
)
def test_a_body_that_is_none_is_refused_with_a_sentence(
    body: bytes, status: int, office: Office
) -> None:
    # K19
    answer = office.post("/v1/reenroll", body)

    assert answer.status == status
    assert answer.body["detail"]


def test_a_member_that_is_not_known_yet_is_ignored(
    office: Office, device: Device
) -> None:
    assert device.enroll(office.claim(device.vehicle_id), more="later").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/x", 404), ("GET", "/v1/grace", 405)]
)
def test_what_is_not_there_is_said(
    method: str, path: str, status: int, office: Office
) -> None:
    answer = office.post(path, b"", method=method)

    assert answer.status == status
    assert answer.error


def test_an_ed25519_key_in_the_tls_request_is_refused(
    office: Office, device: Device
) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(device.vehicle_id))])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .sign(Ed25519PrivateKey.generate(), None)
    )

    answer = device.enroll(
        office.claim(device.vehicle_id),
        tls_request=text(request.public_bytes(Encoding.DER)),
    )

    assert (answer.status, answer.error) == (400, "request_refused")
