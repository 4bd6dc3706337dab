"""A real agent whose wall clock is ten years off, at a broker and a bridge (I-29)."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from firmware_emulator.serial_line import SerialCable
from tests.faketime import lying_by
from tests.gateway.hardware.simulated_card import card_field
from tests.tools.test_gateway import configure
from tests.tools.test_gateway import start as start_agent
from tests.tools.test_send_and_watch import is_online, run
from tools.rig import open_rig


@pytest.mark.faketime
@pytest.mark.broker
@pytest.mark.device
@pytest.mark.timeout(120)
@pytest.mark.parametrize("offset", ["+10y", "-10y"])
async def test_a_car_ten_years_off_connects_obeys_and_keeps_its_timers(
    tmp_path: Path, offset: str
) -> None:
    """I-29 (F), row 36: OpenSSL, the ledger and all of the agent see the wrong time."""
    async with open_rig(tmp_path / "rig", broker="nats") as rig, card_field() as field:
        car, home = rig.cars[0], tmp_path / "agent"
        name = str(car.vehicle_id)
        # The production agent in a process of its own goes on with the car's ledger.
        await car.power_off()
        home.mkdir()
        shutil.copytree(rig.fleet.vehicle_directory(car.vehicle_id), home / "vehicle")
        shutil.copytree(rig.directory / "cars" / name, home / "data")
        async with SerialCable(car.devices.world) as cable:
            configure(home, port=rig.broker.port, reader=field.path, board=cable.path)
            life = asyncio.create_task(car.devices.world.run())
            agent = await start_agent(
                home, "run", "--unattended", more=lying_by(offset)
            )
            try:
                async with asyncio.timeout(40):
                    while not await is_online(rig, name):  # noqa: ASYNC110 - asked
                        await asyncio.sleep(0.05)
                reserved = await run(rig, "send", "reserve", name, "--pin", "2468")
                unlocked = await run(rig, "send", "unlock", name)
            finally:
                with suppress(ProcessLookupError):
                    agent.kill()
                _, log = await agent.communicate()
                life.cancel()

    assert "succeeded" in reserved.out, log.decode()
    # Neither the order's ten seconds nor the reservation's minutes were over by it.
    assert "succeeded" in unlocked.out, log.decode()
    assert not car.devices.car.locked
