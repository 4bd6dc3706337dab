"""The gateway as it is put together: real threads, real files, real clock."""

import asyncio
import secrets
from pathlib import Path

import pytest

from gateway.bootstrap import Gateway, build_gateway, firmware_version
from gateway.runtime.step import Step
from gateway.runtime.system_clock import SystemClock, boot_mark
from gateway.storage.errors import StoreInUseError
from protocol.codes import ClockQuality, Light
from tests.gateway.devices import (
    FakeBoard,
    FakeDisplay,
    FakePositioning,
    FakeReader,
)
from tests.gateway.fleet_end import Air, FleetEnd
from tests.gateway.world import IDENTITY


class Bench:
    """A gateway on a bench: fake devices, everything else as in a car."""

    def __init__(self, path: Path) -> None:
        self.clock = SystemClock()
        self.board = FakeBoard(self.clock)
        self.air = Air()
        self.fleet = FleetEnd(self.air, self.clock)
        self.air.fleet = self.fleet
        self.lit = asyncio.Event()
        self.gateway: Gateway = build_gateway(
            IDENTITY,
            store=path,
            links=self.air.links,
            reader=FakeReader(),
            board=self.board,
            display=FakeDisplay(),
            positioning=FakePositioning(),
            clock=self.clock,
            random_bytes=secrets.token_bytes,
            boot_mark=boot_mark(),
            observer=self.observe,
        )

    async def until_ready(self) -> None:
        """Wait for the light and for the hello."""
        async with asyncio.timeout(10):
            await self.lit.wait()
            while not self.fleet.hellos:  # noqa: ASYNC110 - the fleet has no event
                await asyncio.sleep(0.01)

    def observe(self, step: Step) -> None:
        if step.decision.state.shown_light is Light.GREEN:
            self.lit.set()


async def test_a_gateway_runs_on_threads_and_ends_when_it_is_told(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path / "ledger.db")
    task = asyncio.create_task(bench.gateway.run())

    await bench.until_ready()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    again = Bench(tmp_path / "ledger.db")
    task = asyncio.create_task(again.gateway.run())
    await again.until_ready()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert again.fleet.hellos[0].ledger_id == bench.fleet.hellos[0].ledger_id
    assert again.fleet.hellos[0].head_seq > bench.fleet.hellos[0].head_seq


async def test_two_gateways_on_one_ledger_are_one_too_many(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "ledger.db")
    task = asyncio.create_task(bench.gateway.run())
    await asyncio.wait_for(bench.lit.wait(), 10)

    with pytest.raises(StoreInUseError):
        await Bench(tmp_path / "ledger.db").gateway.run()

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_firmware_is_the_installed_version() -> None:
    assert len(firmware_version()) == 4
    assert firmware_version()[3] == 0


async def test_the_clock_of_the_machine_goes_forward_and_wakes_in_time() -> None:
    clock = SystemClock()
    before = clock.now()

    await clock.sleep_until(before.boot_ms + 20)
    await clock.sleep_until(before.boot_ms)

    after = clock.now()
    assert after.boot_ms >= before.boot_ms + 20
    assert after.wall_ms > 1_700_000_000_000
    assert after.quality in {ClockQuality.RTC, ClockQuality.NTP}


def test_the_mark_of_a_boot_stays_while_it_lasts() -> None:
    assert boot_mark() == boot_mark() != ""
