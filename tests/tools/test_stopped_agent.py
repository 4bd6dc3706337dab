"""A hung agent at a real serial line: the board keeps what is, and shows no green."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from firmware_emulator.car import Car
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.serial_line import SerialCable
from firmware_emulator.witness import Witness
from firmware_emulator.world import CarWorld
from protocol.codes import Light
from tests.tools.listening import ports_of
from tests.tools.test_gateway import configure, make_car, start


@pytest.mark.device
@pytest.mark.timeout(180)
async def test_a_hung_agent_moves_no_bolt_and_leaves_no_green_light(
    tmp_path: Path,
) -> None:
    """I-3 (F), H15, row 6: the process is stopped by the system, and goes on later."""
    clock = EmulatedClock(time.monotonic, lambda: 1_700_000_000.0)
    witness = Witness(clock)
    world = CarWorld(Car(seeded(1), locked=True), clock, witness)
    make_car(tmp_path)

    async def lamp(light: Light) -> None:
        await witness.until(
            lambda: world.firmware.indicator.light is light,
            timeout_s=60,
            missing=f"a lamp {light.name}",
        )

    async with SerialCable(world) as cable:
        life = asyncio.create_task(world.run())
        configure(tmp_path, board=cable.path)
        process = await start(tmp_path, "run", "--unattended")
        try:
            await lamp(Light.GREEN)
            # K17: nobody can call a car.
            assert ports_of(process.pid) == set()

            process.send_signal(signal.SIGSTOP)
            await lamp(Light.FAULT_PATTERN)
            moved = not world.car.locked or world.car.bolts_moving

            process.send_signal(signal.SIGCONT)
            await lamp(Light.GREEN)
        finally:
            process.kill()
            await process.communicate()
            life.cancel()

    assert not moved
    assert world.car.locked
