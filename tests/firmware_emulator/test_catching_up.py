"""A car that was away for long and has hundreds of entries to tell."""

from pathlib import Path

import pytest

from gateway.core.turn import Decision
from gateway.runtime.attached import NOTHING
from protocol.codes import Code
from protocol.event import AgentStarted
from tests.firmware_emulator.test_over_broker import api_of
from tests.tools.test_upkeep_over_brokers import until
from tools.rig import open_rig

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.timeout(120)]

ENTRIES = 800
"""More than a car may send at once (`entries_burst`): the rest comes at 50 a second, of
which the bridge makes nearly as many batches."""


async def test_a_backlog_brings_a_car_no_more_receipts_than_it_judges(
    tmp_path: Path,
) -> None:
    """FF-AUTH-07, I-21: otherwise it drops the last receipt, or an order."""
    async with open_rig(tmp_path / "rig", cars=1, broker="mosquitto") as rig:
        vehicle, api = rig.cars[0], api_of(rig)
        await api.wait_online(vehicle.vehicle_id)
        vehicle.cut_link()
        gateway = vehicle.gateway
        assert gateway is not None
        runtime = gateway._runtime
        [started] = [
            entry.body
            for entry in vehicle.devices.witness.entries
            if isinstance(entry.body, AgentStarted)
        ]
        for _ in range(ENTRIES):
            decision = Decision(runtime._standing.state, (started,), (), None, None)
            now = vehicle.devices.clock.now()
            await runtime._committer.commit(decision, NOTHING, now)

        vehicle.restore_link()

        async def is_told() -> bool:
            return not await runtime._store.entries(1, 1)

        await until(is_told)
        assert Code.RATE_LIMITED not in runtime.dropped
