"""The office certifies the key that a car rotated to (FF-ENR-23 to FF-ENR-26)."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from certs.fleet_audit import audit_fleet
from certs.revocation import revoke_vehicle
from certs.vehicle import random_vehicle_id
from protocol.enrolment import ROTATIONS_LIMIT, VehicleRecord
from protocol.keys import P256SigningKey
from tests.certs.office import Answer, Device, Office, open_office, real_now, text
from tests.gateway.uplink.key_holder import FakeKeyHolder

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    fleet = FleetDirectory.create(
        tmp_path_factory.mktemp("office") / "fleet", name="Test Fleet", now=real_now()
    )
    with open_office(fleet) as running:
        yield running


class Car:
    """An enrolled device whose signing key rotates."""

    def __init__(self, office: Office, folder: Path) -> None:
        self.office = office
        self.device = Device(office, folder)
        self.id = self.device.vehicle_id
        self.holder = FakeKeyHolder(
            self.device.keys.signing,
            vehicle_id=self.id,
            fleet_id=office.fleet.fleet.fleet_id,
        )
        assert self.device.enroll(office.claim(self.id)).status == 200

    def show(self, *frames: bytes, name: str = "") -> Answer:
        return self.office.post(
            "/v1/recertify",
            {
                "format": 1,
                "vehicle_id": name or str(self.id),
                "rotations": list(map(text, frames)),
            },
        )

    @property
    def record(self) -> VehicleRecord:
        return self.office.fleet.vehicle_record(self.id)

    def grace(self, key: object) -> Answer:
        """Ask for a renewal by a signature of this key."""
        self.device.keys = type(self.device.keys)(
            self.device.keys.tls,
            key,  # type: ignore[arg-type] # one of the two suites
            self.device.keys.sealing,
        )
        return self.device.grace()


@pytest.fixture
def car(office: Office, tmp_path: Path) -> Car:
    return Car(office, tmp_path)


def test_the_new_key_is_certified_and_opens_the_grace_path_as_the_old_one_did(
    car: Car,
) -> None:
    # FF-ENR-11, FF-ENR-23, FF-ENR-28.
    old = car.holder.key
    assert car.grace(old).status == 200
    rotation = car.holder.rotate()
    assert car.grace(car.holder.key).error == "not_proved"  # the office has not heard

    answer = car.show(rotation)

    assert answer.status == 200, answer.body
    assert car.record.present_key == car.holder.key.verify_key
    assert car.record.signing_key == old.verify_key  # proves what was signed before
    assert car.grace(car.holder.key).status == 200
    assert car.grace(old).error == "not_proved"


def test_rotations_are_shown_again_and_further_ones_behind_them(car: Car) -> None:
    # FF-ENR-29: an answer was lost, the power was cut, the car rotated meanwhile.
    first = car.holder.rotate()
    once = car.show(first)
    again = car.show(first)
    second, third = car.holder.rotate(), car.holder.rotate(P256SigningKey.generate())

    assert again.body == once.body
    assert car.show(first, second, third).status == 200
    assert car.show(second, third).status == 200
    assert car.show(first).status == 200  # late, and it changes nothing

    assert car.record.present_key == car.holder.key.verify_key
    assert len(car.record.handovers) == 3
    assert [event.event for event in car.office.events()].count("recertified") >= 2


def test_a_thief_of_the_old_key_comes_too_late_and_is_told_of(car: Car) -> None:
    # FF-ENR-25.
    thief = FakeKeyHolder(
        car.holder.key, vehicle_id=car.id, fleet_id=car.holder.fleet_id
    )
    assert car.show(car.holder.rotate()).status == 200
    before = car.office.fleet.record_path(car.id).read_bytes()

    assert car.show(thief.rotate()).error == "not_proved"

    assert car.office.alarms()[-1] == "rotation_forked"
    assert car.office.fleet.record_path(car.id).read_bytes() == before
    # And without the key nobody can raise this alarm.
    stranger = FakeKeyHolder(
        P256SigningKey.generate(), vehicle_id=car.id, fleet_id=car.holder.fleet_id
    )
    assert car.show(stranger.rotate()).error == "not_proved"
    assert car.office.alarms()[-1] == "rotation_not_proved"


def test_a_rotation_to_anybodys_key_is_refused(
    car: Car, office: Office, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # FF-ENR-05: another car's present, former and first key.
    other = Car(office, tmp_path_factory.mktemp("other"))
    first = other.device.keys.signing
    between = P256SigningKey.generate()
    rotations = other.holder.rotate(between), other.holder.rotate()
    assert other.show(*rotations).status == 200

    for key in (first, between, other.holder.key):
        twin = FakeKeyHolder(
            car.holder.key, vehicle_id=car.id, fleet_id=car.holder.fleet_id
        )
        assert car.show(twin.rotate(key)).error == "not_proved"
    assert car.record.handovers == ()


def test_what_proves_nothing_certifies_nothing(car: Car) -> None:
    # FF-ENR-26: and an unknown vehicle is answered alike (FF-ENR-21).
    first, second = car.holder.rotate(), car.holder.rotate()
    elsewhere = FakeKeyHolder(
        car.device.keys.signing, vehicle_id=car.id, fleet_id=bytes(16)
    )
    flipped = first[:-1] + bytes([first[-1] ^ 1])
    for frames in ((second,), (flipped,), (b"no frame",), (elsewhere.rotate(),)):
        assert car.show(*frames).error == "not_proved"
    unknown = car.show(first, name=str(random_vehicle_id()))
    wrong = car.show(flipped)
    assert unknown.body == wrong.body
    assert car.show().error == "malformed"
    assert car.show(*[first] * (ROTATIONS_LIMIT + 1)).error == "malformed"
    assert car.record.handovers == ()


def test_a_record_has_room_for_the_rotations_of_a_life_and_no_more(car: Car) -> None:
    frames = [car.holder.rotate() for _ in range(ROTATIONS_LIMIT)]
    assert car.show(*frames).status == 200
    assert len(car.record.handovers) == ROTATIONS_LIMIT

    assert car.show(car.holder.rotate()).error == "not_proved"


def test_a_withdrawn_car_certifies_nothing(car: Car) -> None:
    # FF-ENR-10.
    rotation = car.holder.rotate()
    revoke_vehicle(car.office.fleet, car.id, reason="stolen", now=real_now())

    assert car.show(rotation).error == "revoked"


def test_the_audit_knows_the_new_key(car: Car) -> None:
    # K1: it is the same vehicle's in two certificates, and no key is shared.
    answer = car.show(car.holder.rotate())
    assert base64.b64decode(answer.body["signing_certificate"])

    found = audit_fleet(car.office.fleet, now=real_now())

    assert not [one for one in found if str(car.id) in one.subject and one.days is None]
    assert not [one for one in found if one.check == "key_in_two_roles"]
