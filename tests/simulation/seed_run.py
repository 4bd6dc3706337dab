"""One seed: a world is built, lives, heals and is judged."""

import asyncio
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bridge import dispatch, lease, steward
from bridge.sqlite_database import SqliteDatabase
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles
from firmware_emulator import board_firmware
from firmware_emulator.chance import seeded
from gateway.storage.identity import Identity, load_identity
from protocol import sealing
from protocol.identity import VehicleId
from tests.bridge.world import NOW_MS
from tests.simulation import seeded_loop
from tests.simulation.bridge import SimulatedBridge
from tests.simulation.broker import Broker
from tests.simulation.car import SimulatedCar
from tests.simulation.clock import WallClock
from tests.simulation.customers import RandomCustomer
from tests.simulation.desk import Desk
from tests.simulation.hostility import KIND, Hostility
from tests.simulation.oracle import Oracle
from tests.simulation.saboteur import Saboteur
from tests.simulation.settlement import Settlement
from tests.simulation.trace import Trace
from tests.simulation.violation import Violation

CARS: Final = 3
"""Of the fleet; a seed has one to three of them."""

LIFE_S: Final = 80.0
"""Virtual seconds that a seed's world is bad for, on average."""

MOST_S: Final = 1_000.0
"""Virtual seconds from a world's healing to its end, at the very most."""

CHEAPER: Final = (
    # Nobody guesses PINs here, and 19 MiB of Argon2id cost 30 ms.
    (sealing, "MEMORY_KIB", 8),
    (sealing, "PASSES", 1),
    # Idle looks of the bridge would cost more than all else.
    (dispatch, "SWEEP_S", 2.0),
    (steward, "SWEEP_S", 2.0),
    (lease, "RENEW_S", 8.0),
    # A board at rest speaks as seldom as it may; a change it tells at once.
    (board_firmware, "REPORT_MS", 1_400),
)
"""Constants of the product that a simulation sets otherwise, and why."""

EMPTY: Final = "empty.sqlite"
"""A bridge's database with its tables: making them takes longer than a seed."""

DATABASE: Final = "bridge.sqlite"

Plant = Callable[["SeedRun"], None]
"""Puts a fault into a world before it lives."""


@dataclass(frozen=True)
class Outcome:
    """What became of a seed."""

    seed: int
    trace_hash: str
    counts: Counter[str]
    violation: Violation | None
    lines: tuple[str, ...]
    """The last of the trace."""


@dataclass(frozen=True)
class Fleet:
    """Keys and certificates, made once for many seeds."""

    directory: FleetDirectory
    identities: tuple[Identity, ...]
    root: Path
    """Where seeds have their files."""


@contextmanager
def made_fleet() -> Iterator[Fleet]:
    """Make a fleet in memory where the machine has such a place."""
    shared = Path("/dev/shm")
    place = shared if shared.is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="ff-sim-", dir=place))
    try:
        with _made_cheap():
            yield _make_fleet(root)
    finally:
        shutil.rmtree(root)


def _make_fleet(root: Path) -> Fleet:
    # A day before, so that a bridge's clock that is an hour slow finds its keys valid.
    made = datetime.fromtimestamp(NOW_MS / 1000, UTC) - timedelta(days=1)
    fleet = FleetDirectory.create(root / "fleet", name="simulated", now=made)
    names = [hashlib.sha256(f"car {n}".encode()).digest()[:16] for n in range(CARS)]
    issue_vehicles(fleet, [VehicleId(name) for name in names], now=made)
    identities = tuple(
        load_identity(fleet.vehicle_directory(VehicleId(name))) for name in names
    )
    empty = SqliteDatabase(root / EMPTY)
    empty.open()
    empty.close()
    return Fleet(fleet, identities, root)


@contextmanager
def _made_cheap() -> Iterator[None]:
    """Let what only costs time cost less of it; nothing is decided differently."""
    with ExitStack() as stack:
        for module, name, value in CHEAPER:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield


class SeedRun:
    """The world of one seed."""

    def __init__(self, seed: int, fleet: Fleet, directory: Path) -> None:
        loop = asyncio.get_running_loop()
        rng = seeded(seed, "world")
        self.seed = seed
        self.trace = Trace(loop.time)
        self.hostility = Hostility.draw(rng)
        self.broker = Broker(seeded(seed, "broker"), self.trace, self.hostility)
        self.oracle = Oracle(self.trace, directory / DATABASE, seconds=loop.time)
        self.broker.on_published = self.oracle.published
        self.broker.on_done = self.oracle.acknowledged
        self.bridge = SimulatedBridge(
            fleet.directory,
            directory / DATABASE,
            rng=seeded(seed, "bridge"),
            broker=self.broker,
            clock=WallClock(loop.time, start_ms=NOW_MS),
            trace=self.trace,
        )
        count = rng.choice((1, 1, 1, 2, 2, CARS))
        self.cars = [
            SimulatedCar(
                f"car {number + 1}",
                identity,
                rng=seeded(seed, "car", number),
                broker=self.broker,
                oracle=self.oracle,
                trace=self.trace,
            )
            for number, identity in enumerate(fleet.identities[:count])
        ]
        self.desks = [
            Desk(
                car, self.bridge, self.oracle, self.trace, seeded(seed, "desk", number)
            )
            for number, car in enumerate(self.cars)
        ]
        self.saboteur = Saboteur(
            self.hostility,
            cars=self.cars,
            bridge=self.bridge,
            broker=self.broker,
            trace=self.trace,
            promises=self.oracle.promises,
            rng=seeded(seed, "saboteur"),
        )
        self.life_s = LIFE_S / count * rng.uniform(0.5, 1.5)

    async def live(self) -> None:
        """Live, heal and be judged.

        Raises:
            Violation: an invariant is broken.
        """
        try:
            async with asyncio.timeout(self.life_s + MOST_S):
                await self._live()
        except TimeoutError:
            self.oracle.fail("I-10: the world does not settle")
        except Violation as found:
            self.oracle.fail(str(found), found)
        finally:
            await self._end()
        if self.oracle.failure is not None:
            raise self.oracle.failure

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(MOST_S):
                for car in self.cars:
                    await car.end()
                await self.bridge.end()
        except TimeoutError:
            self.oracle.fail("I-34: a car or the bridge is told to end and does not")
        finally:
            self.oracle.close()

    async def _live(self) -> None:
        self.bridge.start()
        for car in self.cars:
            car.start()
        self.saboteur.start()
        people = [asyncio.create_task(RandomCustomer(d).live()) for d in self.desks]
        people += [asyncio.create_task(self._operate(desk)) for desk in self.desks]
        judging = asyncio.create_task(self.oracle.failed.wait())
        await asyncio.wait(
            {judging, *people}, timeout=self.life_s, return_when=asyncio.FIRST_COMPLETED
        )
        judging.cancel()
        for person in people:
            person.cancel()
        ends = await asyncio.gather(*people, return_exceptions=True)
        await self.saboteur.stop()
        for end in ends:
            if isinstance(end, Exception):
                raise end
        if self.oracle.failure is not None:
            return
        self.trace.note("world", "everything heals")
        self.broker.hostility = KIND
        self.bridge.consumer.is_kind = True
        settlement = Settlement(
            desks=self.desks,
            bridge=self.bridge,
            broker=self.broker,
            oracle=self.oracle,
        )
        await settlement.wait()
        if self.oracle.failure is None:
            await settlement.judge()

    async def _operate(self, desk: Desk) -> None:
        rng = desk.rng
        while True:
            await desk.configure()
            for _ in range(rng.randrange(4, 12)):
                await asyncio.sleep(rng.expovariate(1 / 5.0))
                await desk.act()


def run_seed(
    seed: int, fleet: Fleet, *, life: float = 1.0, plant: Plant = lambda _: None
) -> Outcome:
    """Run one seed in virtual time; the same seed gives the same outcome.

    Args:
        seed: decides everything.
        fleet: whose keys are used; they decide nothing.
        life: 1 for a world of the usual length.
        plant: puts a fault in.
    """
    directory = Path(tempfile.mkdtemp(dir=fleet.root))
    shutil.copy(fleet.root / EMPTY, directory / DATABASE)
    runs: list[SeedRun] = []

    async def main() -> None:
        run = SeedRun(seed, fleet, directory)
        runs.append(run)
        run.life_s *= life
        plant(run)
        try:
            await run.live()
        finally:
            lived_s = round(asyncio.get_running_loop().time())
            run.trace.counts["virtual seconds"] = lived_s

    violation: Violation | None = None
    try:
        seeded_loop.run(main(), seeded(seed, "loop"))
    except Violation as found:
        violation = found
    except Exception as error:  # noqa: BLE001 - a seed that cannot be run is a finding
        violation = Violation(f"the simulation ended by {error!r}")
        violation.__cause__ = error
    finally:
        shutil.rmtree(directory)
    trace = runs[0].trace
    return Outcome(seed, trace.hash, trace.counts, violation, tuple(trace.lines))
