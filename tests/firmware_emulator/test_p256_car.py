"""A car whose key is of P-256, as a TPM's is: a whole rental over the broker."""

from dataclasses import replace
from pathlib import Path

import pytest

from bridge.ports import Direction, FrameSeen
from certs.enrolment import VehicleKeys
from firmware_emulator.customer import Customer
from firmware_emulator.demand import Bridge
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import (
    drive,
    end_by_card,
    enter_pin,
    get_in,
    start_engine,
    stop_engine,
    tap_to_open,
)
from firmware_emulator.script import play_step
from protocol.codes import FrameClass, Suite
from protocol.event import RentalEnded
from protocol.keys import P256SigningKey
from tools.rig import open_rig

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

CARD = Card(bytes.fromhex("04a1b2c3d4e5f6"))
PIN = "2468"


@pytest.fixture
def p256_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fleet's office make signing keys as a TPM does."""
    generate = VehicleKeys.generate

    def with_p256() -> VehicleKeys:
        return replace(generate(), signing=P256SigningKey.generate())

    monkeypatch.setattr(VehicleKeys, "generate", with_p256)


@pytest.mark.usefixtures("p256_keys")
async def test_a_whole_rental_of_a_p256_car_is_verified_and_reported_by_the_bridge(
    tmp_path: Path,
) -> None:
    # FF-SIG-05, FF-SIG-10, FF-ENR-03.
    # K11: commands of an Ed25519 signer, answers and entries by P-256.
    seen = list[FrameSeen]()
    async with open_rig(tmp_path / "rig", cars=1, observer=seen.append) as rig:
        vehicle = rig.cars[0]
        api = Bridge(rig.bridge.api_url, {"X-Api-Key": rig.api_key})
        await api.wait_online(vehicle.vehicle_id)
        rental_id = await api.reserve(vehicle.vehicle_id, CARD, PIN)
        customer = Customer(vehicle.devices, CARD, PIN)
        for step in (tap_to_open(), get_in(), enter_pin(), start_engine()):
            await play_step(step, customer)
        for step in (drive(8), stop_engine(), end_by_card()):
            await play_step(step, customer)

        rental = await api.wait_report(rental_id)

        assert rental["report"]["distance_m"] == 8
        entries = vehicle.devices.witness.entries
        assert sum(isinstance(entry.body, RentalEnded) for entry in entries) == 1
    up = [one for one in seen if one.direction is Direction.IN]
    down = [one for one in seen if one.direction is Direction.OUT]
    assert {one.frame.header.suite for one in up if one.frame} == {Suite.P256}
    assert {one.frame.header.suite for one in down if one.frame} == {Suite.ED25519}
    classes = {one.frame.header.frame_class for one in up if one.frame}
    assert classes >= {FrameClass.HELLO, FrameClass.EVENT, FrameClass.RESULT}
    # An empty note: the bridge has verified it, and took it as it should be.
    assert [
        one.note for one in seen if one.direction is Direction.IN and one.note
    ] == []
