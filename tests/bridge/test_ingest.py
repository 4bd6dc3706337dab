"""One test per attack on the uplink, against the pure verification (I-24, K6)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bridge.ingest import (
    Rejection,
    VerifiedDeath,
    VerifiedEntry,
    VerifiedHello,
    VerifiedTelemetry,
    verify,
)
from bridge.registry import Registry, RegistryDirectory
from certs.fleet import FleetDirectory
from protocol.codes import AccessMeans, Code, FrameClass
from protocol.event import RentalStarted
from protocol.fleet import FleetPart
from protocol.frame import parse_frame
from protocol.keyfile import parse_signing_key
from protocol.receipt import RECEIPT, Receipt
from protocol.signing import sign_frame
from protocol.topic import topic_of
from tests.bridge.car import RENTAL, Car, sample

STARTED = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)

Judge = Callable[..., object]


@pytest.fixture
def registry(fleet: FleetDirectory) -> Registry:
    directory = RegistryDirectory(
        fleet.path / FleetPart.REGISTRY,
        fleet_id=fleet.fleet.fleet_id,
        issuers=[fleet.issuing_certificate],
        wall_ns=lambda: 0,
        refused=lambda error: pytest.fail(str(error)),
    )
    directory.refresh()
    return directory.current


@pytest.fixture
def cars(fleet: FleetDirectory) -> list[Car]:
    return [
        Car(fleet.vehicle_directory(vehicle_id), boot_ms=lambda: 1000)
        for vehicle_id in fleet.vehicle_ids()
    ]


@pytest.fixture
def car(cars: list[Car]) -> Car:
    return cars[0]


@pytest.fixture
def judge(registry: Registry, fleet: FleetDirectory) -> Judge:
    def verified(topic: str, data: bytes, *, retain: bool = False) -> object:
        return verify(
            topic,
            data,
            retain=retain,
            registry=registry,
            fleet_id=fleet.fleet.fleet_id,
        )

    return verified


def code_of(judged: object) -> Code:
    assert isinstance(judged, Rejection)
    return judged.code


def test_what_a_registered_car_signs_is_verified_and_read(
    car: Car, judge: Judge
) -> None:
    event = judge(car.topic(FrameClass.EVENT), car.event(STARTED))
    hello = judge(car.topic(FrameClass.HELLO), car.hello())
    telemetry = judge(car.topic(FrameClass.TELEM), car.telemetry(sample()))
    death = judge(car.topic(FrameClass.DEATH), car.death())

    assert isinstance(event, VerifiedEntry)
    assert event.body == STARTED
    assert isinstance(hello, VerifiedHello)
    assert isinstance(telemetry, VerifiedTelemetry)
    assert isinstance(death, VerifiedDeath)


def test_every_flipped_bit_is_refused(car: Car, judge: Judge) -> None:
    # FF-SIG-07.
    # K11: not one bit of the frame is outside the signature.
    topic, data = car.topic(FrameClass.EVENT), car.event(STARTED)

    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        assert isinstance(judge(topic, bytes(flipped)), Rejection), position


def test_every_truncation_and_extension_is_refused(car: Car, judge: Judge) -> None:
    # FF-SIG-07.
    topic, data = car.topic(FrameClass.EVENT), car.event(STARTED)

    for size in range(len(data)):
        assert isinstance(judge(topic, data[:size]), Rejection), size
    for extra in range(1, 9):
        assert isinstance(judge(topic, data + bytes(extra)), Rejection), extra


def test_another_vehicles_signature_is_refused(cars: list[Car], judge: Judge) -> None:
    # FF-SIG-06.
    victim, rogue = cars[:2]
    rogue.id = victim.id

    judged = judge(victim.topic(FrameClass.EVENT), rogue.event(STARTED))

    assert code_of(judged) is Code.UNKNOWN_KEY


def test_another_vehicles_signature_under_the_victims_key_id_is_refused(
    cars: list[Car], judge: Judge
) -> None:
    victim, rogue = cars[:2]
    genuine = bytearray(victim.event(STARTED))
    genuine[-64:] = rogue.key.sign(bytes(genuine[:-64]))

    judged = judge(victim.topic(FrameClass.EVENT), bytes(genuine))

    assert code_of(judged) is Code.BAD_SIGNATURE


def test_a_frame_on_another_vehicles_topic_is_refused(
    cars: list[Car], judge: Judge
) -> None:
    # FF-ADR-07.
    judged = judge(cars[1].topic(FrameClass.EVENT), cars[0].event(STARTED))

    assert code_of(judged) is Code.WRONG_VEHICLE


def test_a_frame_on_the_topic_of_another_class_is_refused(
    car: Car, judge: Judge
) -> None:
    # FF-ADR-08.
    judged = judge(car.topic(FrameClass.TELEM), car.event(STARTED))

    assert code_of(judged) is Code.BAD_CLASS


@pytest.mark.parametrize(
    "frame_class", [FrameClass.CMD, FrameClass.RECEIPT, FrameClass.TRUST]
)
def test_a_reflected_downlink_is_refused(
    car: Car, judge: Judge, frame_class: FrameClass
) -> None:
    # FF-ADR-08.
    payload = RECEIPT.build(Receipt(bytes(8), 0, bytes(32), 0, (), ()))
    data = car.sign(frame_class, 1, payload, seq=1)

    for topic_class in (FrameClass.EVENT, FrameClass.RESULT):
        judged = judge(car.topic(topic_class), data)
        assert code_of(judged) is Code.WRONG_DIRECTION
    judged = judge(topic_of(car.id, frame_class), data)
    assert code_of(judged) is Code.WRONG_DIRECTION


def test_a_signature_of_another_class_does_not_carry_over(
    car: Car, judge: Judge
) -> None:
    # FF-SIG-04.
    data = bytearray(car.event(STARTED))
    data[4] = FrameClass.RESULT

    judged = judge(car.topic(FrameClass.RESULT), bytes(data))

    assert code_of(judged) is Code.BAD_SIGNATURE


def test_a_frame_signed_for_another_fleet_is_refused(car: Car, judge: Judge) -> None:
    # FF-SIG-03.
    # protocol-design.md 1: staging does not reach production.
    car.fleet_id = bytes(16)

    judged = judge(car.topic(FrameClass.EVENT), car.event(STARTED))

    assert code_of(judged) is Code.BAD_SIGNATURE


def test_a_car_of_another_fleet_is_not_known(
    other_fleet: FleetDirectory, judge: Judge
) -> None:
    # FF-ADR-16.
    [stranger] = other_fleet.vehicle_ids()
    car = Car(other_fleet.vehicle_directory(stranger), boot_ms=lambda: 1000)

    judged = judge(car.topic(FrameClass.EVENT), car.event(STARTED))

    assert code_of(judged) is Code.UNKNOWN_KEY


def test_a_retained_frame_is_refused_although_its_signature_holds(
    car: Car, judge: Judge
) -> None:
    # FF-ADR-11.
    # L9
    judged = judge(car.topic(FrameClass.HELLO), car.hello(), retain=True)

    assert code_of(judged) is Code.RETAINED


def test_a_suite_that_is_not_the_keys_is_refused(car: Car, judge: Judge) -> None:
    # FF-SIG-05.
    data = bytearray(car.event(STARTED))
    data[3] = 2

    judged = judge(car.topic(FrameClass.EVENT), bytes(data))

    assert code_of(judged) is Code.SUITE_FORBIDDEN


@pytest.mark.parametrize(
    "topic",
    ["", "ff/v1", "ff/v1/+/up/event", "ff/v1/x/up/event", "\x00", "ff/v2/a/b/c"],
)
def test_a_topic_of_another_form_is_refused(car: Car, judge: Judge, topic: str) -> None:
    # FF-ADR-09.
    assert isinstance(judge(topic, car.event(STARTED)), Rejection)


def test_the_payload_is_not_read_before_the_signature(car: Car, judge: Judge) -> None:
    # FF-ADR-16.
    # I-24: a payload that nobody signed is not even parsed.
    bad = bytearray(car.entry(FrameClass.EVENT, 0x8105, b"no event at all"))
    bad[-1] ^= 1

    judged = judge(car.topic(FrameClass.EVENT), bytes(bad))

    assert code_of(judged) is Code.BAD_SIGNATURE


def test_a_rejection_keeps_bounded_bytes(car: Car, judge: Judge) -> None:
    judged = judge(car.topic(FrameClass.EVENT), bytes(100_000))

    assert isinstance(judged, Rejection)
    assert len(judged.data) == 4096


def test_a_signature_by_the_right_key_over_other_bytes_is_refused(
    car: Car, judge: Judge
) -> None:
    first, second = car.event(STARTED), car.event(replace(STARTED, energy_pct=1))
    mixed = first[:-64] + second[-64:]

    assert code_of(judge(car.topic(FrameClass.EVENT), mixed)) is Code.BAD_SIGNATURE


def test_a_receipt_key_signs_nothing_for_a_car(
    car: Car, judge: Judge, fleet: FleetDirectory
) -> None:
    key = parse_signing_key(
        (fleet.path / FleetPart.RECEIPT_KEY).read_bytes(), name="receipt"
    )
    frame = parse_frame(car.event(STARTED))
    forged = sign_frame(
        replace(frame.header, key_id=key.key_id),
        frame.payload,
        fleet_id=car.fleet_id,
        key=key,
    )

    assert code_of(judge(car.topic(FrameClass.EVENT), forged)) is Code.UNKNOWN_KEY
