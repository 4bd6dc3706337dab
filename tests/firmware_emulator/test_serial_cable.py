"""The emulated board on a real serial port: the production driver at a pty."""

import asyncio
import time

import pytest

from firmware_emulator.car import Car
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.serial_line import SerialCable
from firmware_emulator.witness import Witness
from firmware_emulator.world import CarWorld
from gateway.core.events import BoardLost, BoardReported, Event
from gateway.hardware.serial_board import SerialBoard
from protocol.codes import Light


@pytest.mark.device
async def test_the_production_driver_unlocks_an_emulated_car_and_notices_its_loss() -> (
    None
):
    clock = EmulatedClock(time.monotonic, lambda: 1_700_000_000.0)
    witness = Witness(clock)
    world = CarWorld(Car(seeded(1), locked=True), clock, witness)
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        witness.notice()

    def newest_says_unlocked() -> bool:
        reports = [event for event in events if isinstance(event, BoardReported)]
        return bool(reports) and not reports[-1].reading.locked

    async with SerialCable(world) as cable, asyncio.TaskGroup() as group:
        life = group.create_task(world.run())
        board = SerialBoard(cable.path)
        driver = group.create_task(board.run(report))
        await witness.until(lambda: bool(events), timeout_s=5, missing="a report")
        await board.show_light(Light.GREEN, blinking=False)
        await board.drive_locks(locked=False)
        await witness.until(newest_says_unlocked, timeout_s=5, missing="a read-back")
        assert not world.car.locked
        assert world.firmware.indicator.light is Light.GREEN

        cable.unplug()
        await witness.until(
            lambda: isinstance(events[-1], BoardLost), timeout_s=5, missing="the loss"
        )
        for task in (driver, life):
            task.cancel()

    assert not world.car.locked
