"""Whoever cuts, kills, jams and sets clocks, as often as a seed's world has it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import Random
from typing import Final

from tests.simulation.bridge import SimulatedBridge
from tests.simulation.broker import BRIDGE, Broker
from tests.simulation.car import SimulatedCar
from tests.simulation.hostility import Hostility
from tests.simulation.promises import Promises
from tests.simulation.trace import Trace

YEAR_MS: Final = 365 * 24 * 3_600_000
HOUR_MS: Final = 3_600_000


class Saboteur:
    """Runs one task for each kind of blow."""

    def __init__(
        self,
        hostility: Hostility,
        *,
        cars: Sequence[SimulatedCar],
        bridge: SimulatedBridge,
        broker: Broker,
        trace: Trace,
        promises: Promises,
        rng: Random,
    ) -> None:
        self._cars = cars
        self._bridge = bridge
        self._broker = broker
        self._trace = trace
        self._promises = promises
        self._rng = rng
        self._hostility = hostility
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._strike(every_s, blow))
            for every_s, blow in self._blows()
            if every_s
        ]

    async def stop(self) -> None:
        """Strike no more; a blow under way is finished, and its damage made good."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.repair()

    def repair(self) -> None:
        """Let everything work again that was cut, stalled, unplugged or jammed."""
        for way in self._broker.ways.values():
            way.is_cut = way.is_deaf = way.is_mute = False
        self._bridge.clock.heal()
        for car in self._cars:
            devices = car.devices
            car.fill_disk(None)
            devices.reader.repair()
            devices.board.cable_cut = False
            devices.positioning.sky = True
            with devices.world.hands() as body:
                body.faults.bolts_jammed = False
                body.faults.door_sensor_open = False
                body.faults.speed_sensor_dead = False
                body.faults.starter_relay_stuck = False
                body.faults.supply_mv = None

    def _blows(self) -> Iterator[tuple[float, Callable[[], Awaitable[None]]]]:
        worse = self._hostility
        yield worse.replay_every_s, self._replay
        yield worse.cut_every_s, self._cut_car
        yield worse.stall_every_s, self._stall_car
        yield worse.bridge_cut_every_s, self._cut_bridge
        yield worse.power_every_s, self._cut_power
        yield worse.kill_every_s, self._kill_agent
        yield worse.crash_every_s, self._crash_bridge
        yield worse.jump_every_s, self._jump
        yield worse.break_every_s, self._break

    async def _strike(
        self, every_s: float, blow: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / every_s))
            # Who is stopped in the middle of a power cut would leave a car without.
            await _finish(blow())

    def _car(self) -> SimulatedCar:
        return self._rng.choice(self._cars)

    async def _replay(self) -> None:
        self._broker.replay()

    async def _cut_car(self) -> None:
        await self._cut(self._car().client, "car's link")

    async def _cut_bridge(self) -> None:
        await self._cut(BRIDGE, "bridge's link")

    async def _cut(self, client: str, what: str) -> None:
        down_s = self._rng.choice((0.0, 1.0, 20.0)) * self._rng.random()
        self._trace.note("world", f"{what} is cut for {down_s:.1f} s", kind="links cut")
        way = self._broker.way(client)
        way.is_cut = True
        self._broker.cut(client)
        await asyncio.sleep(down_s)
        way.is_cut = False

    async def _stall_car(self) -> None:
        way = self._broker.way(self._car().client)
        way.is_deaf, way.is_mute = self._rng.choice(
            ((True, False), (False, True), (True, True))
        )
        stalled_s = self._rng.uniform(1.0, 40.0)
        self._trace.note("world", f"half open for {stalled_s:.1f} s", kind="half open")
        link = way.link
        # What went into the hole is gone, so the connection does not come back.
        await asyncio.sleep(stalled_s)
        way.is_deaf = way.is_mute = False
        if link is not None:
            link.lose()

    async def _cut_power(self) -> None:
        car = self._car()
        if car.is_on:
            await car.power_cut(self._rng.choice((0.2, 2.0, 20.0)) * self._rng.random())

    async def _kill_agent(self) -> None:
        car = self._car()
        if car.is_on:
            await car.kill()

    async def _crash_bridge(self) -> None:
        if self._rng.random() < 0.2:
            await self._bridge.restart()
        else:
            await self._bridge.crash(self._rng.uniform(0.1, 10.0))

    async def _jump(self) -> None:
        far = self._rng.choice((YEAR_MS * 10, YEAR_MS, HOUR_MS, 90_000))
        jump_ms = round(self._rng.uniform(-far, far))
        whose = "bridge" if self._rng.random() < 0.2 else self._car().name
        if whose == "bridge":
            self.jump_bridge(max(-HOUR_MS, min(HOUR_MS, jump_ms)))
            return
        for car in self._cars:
            if car.name == whose:
                car.clock.jump_wall(jump_ms)
        self._note_jump(whose, jump_ms)

    def jump_bridge(self, milliseconds: int) -> None:
        """Set the bridge's wall clock forward from the true time, or back."""
        self._bridge.clock.jump(milliseconds)
        self._promises.is_time_told_wrong = True
        self._note_jump("bridge", milliseconds)

    def _note_jump(self, whose: str, milliseconds: int) -> None:
        text = f"clock of {whose} jumps {milliseconds / 1000:.0f} s"
        self._trace.note("world", text, kind="clock jumps")

    async def _break(self) -> None:
        car = self._car()
        devices = car.devices
        which = self._rng.randrange(8)
        # A disk is full until somebody makes room.
        broken_s = self._rng.uniform(1.0, 45.0 if which == 7 else 15.0)
        names = (
            "reader",
            "cable",
            "sky",
            "bolts",
            "door sensor",
            "speed",
            "supply",
            "disk",
        )
        self._trace.note(
            "world", f"{names[which]} fails for {broken_s:.1f} s", kind="devices broken"
        )
        for is_broken in (True, False):
            match which:
                case 0:
                    (devices.reader.fail if is_broken else devices.reader.repair)()
                case 1:
                    devices.board.cable_cut = is_broken
                case 2:
                    devices.positioning.sky = not is_broken
                case 7:
                    left_kib = self._rng.choice((0, 40, 200))
                    car.fill_disk(left_kib if is_broken else None)
                case _:
                    with devices.world.hands() as body:
                        faults = body.faults
                        faults.bolts_jammed = is_broken and which == 3
                        faults.door_sensor_open = is_broken and which == 4
                        faults.speed_sensor_dead = is_broken and which == 5
                        faults.supply_mv = 8_000 if is_broken and which == 6 else None
            if is_broken:
                await asyncio.sleep(broken_s)


async def _finish(work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
