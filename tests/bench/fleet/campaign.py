"""One run of a fleet: a broker, a bridge, the load generator, and what was counted.

    python -m tests.bench.fleet --cars 14000 --rate 10000 --seconds 30

Everything is on this machine and on loopback; the run ends by itself.
"""

import json
import os
import resource
import subprocess
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.program import BrokerKind
from protocol.fleet import FleetPart
from tests.bench.figure import Figure, percentile
from tests.bench.fleet.bridge_process import BARE_THREAD, VERIFYING
from tests.bench.fleet.cars import BenchCar, entries_of, make_cars, make_fleet
from tests.bench.fleet.program import build_program, let_end
from tests.bench.fleet.swarm import Swarm
from tests.postgres import Server
from tools.clock import wall_clock
from transport.tls import TlsIdentity

DRAIN_S: Final = 30.0
"""How long the rest may take after the last publish."""

CONNECT_S: Final = 300.0

STOP_S: Final = 30.0
"""How long the bridge may take to drain and end."""

RATIO_MOST: Final = 2.5
"""Bridge work for a telemetry frame, in bare verifications (issue 5)."""

PART_LEAST_US: Final = 0.05

PARTS: Final = {
    "MainThread": "MQTT, event loop, receipts",
    VERIFYING: "signatures, in a process of its own",
    "ask": "decode and ask",
    "verify": "judge",
    "store-writer": "commit and outbox",
    "store-reader": "sinks and API reads",
}
"""What each thread does, by its name."""

ENTRY_EACH: Final = 100
"""One of so many frames is a ledger entry. A rental leaves some 20 of them, and 14,000
cars with six rentals a day (assumed) 20 a second, thrice as many in a rush hour: of
10,000 frames a second that is one in 170."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a run is."""

    cars: int
    """Connections."""
    rate: float
    """Frames a second over all cars."""
    seconds: float
    """How long frames are published."""
    entry_each: int = ENTRY_EACH
    """One of so many frames of a car is a ledger entry; 0 for none."""
    warm_s: float = 2.0
    """Seconds at the beginning whose latencies are not counted."""

    @property
    def frames(self) -> int:
        """Frames in all."""
        return int(self.rate * self.seconds)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed."""

    plan: Plan
    connect_s: float
    published_s: float
    """Seconds from the first to the last publish."""
    published: int
    acknowledged: int
    """PUBACKs that cars got."""
    committed: int
    """Different frames that the bridge committed."""
    rejected: int
    entries: int
    receipted: int
    """Ledger entries that a signed receipt named."""
    commit_ms: tuple[float, float, float]
    """p50, p99 and maximum from publish to commit."""
    receipt_ms: tuple[float, float, float]
    """The same to the signed receipt."""
    late_ms: float
    """By how much the generator was ever behind its own clock."""
    bare_us: float
    """CPU of one bare verification by libsodium, in the bridge while it worked."""
    bridge_us: float
    """CPU of the bridge's processes for each frame, without those."""
    parts_us: dict[str, float]
    """The same by thread."""
    broker_us: float
    """CPU of mosquitto for each frame."""
    database_us: float
    """CPU of PostgreSQL for each frame; 0 with SQLite, which is in the bridge."""
    generator_us: float
    """CPU of the load generator for each frame."""
    bridge_mb: float
    """Most memory that the bridge ever had resident."""
    load_average: float
    batch_frames: float
    """Frames in one transaction, on average."""

    @property
    def ratio(self) -> float:
        """Bridge work as a multiple of one bare verification."""
        return self.bridge_us / self.bare_us

    @property
    def lost(self) -> int:
        """Frames that were published and not committed, or entries without receipt."""
        return self.published - self.committed + self.entries - self.receipted


class BridgeProcess:
    """The bridge beside us; see `tests.bench.fleet.bridge_process`."""

    def __init__(
        self, fleet: Path, state: Path, port: int, store_url: str | None = None
    ) -> None:
        command = [sys.executable, "-m", "tests.bench.fleet.bridge_process"]
        command += ["--fleet", str(fleet), "--state", str(state), "--port", str(port)]
        if store_url is not None:
            command += ["--store-url", store_url]
        self._errors = (state / "bridge.log").open("wb")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.api_url: str = self._answer()["api"]

    def ask(self, word: str) -> dict[str, Any]:
        """Return the answer to one word."""
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the bridge has no stdin")
        stdin.write(f"{word}\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        stdout = self._process.stdout
        line = stdout.readline() if stdout is not None else ""
        if not line:
            raise RuntimeError(f"the bridge ended; see {self._errors.name}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End it; it drains first."""
        let_end(self._process, within_s=STOP_S)
        self._errors.close()


def require_files(cars: int) -> None:
    """Allow as many open files as the cars need.

    Raises:
        SystemExit: the hard limit is below it; it says what to do.
    """
    needed = cars + 200
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(
            f"{cars} cars need {needed} open files, the hard limit is {hard}: raise it "
            "(ulimit -Hn as root) or take fewer cars"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run_campaign(
    plan: Plan,
    directory: Path,
    *,
    fleet_path: Path | None = None,
    profile: Path | None = None,
    postgres: Server | None = None,
    tell: Callable[[str], None] = print,
) -> Outcome:
    """Run one fleet and count.

    Args:
        plan: how large.
        directory: empty or absent; for the broker's and the bridge's files.
        fleet_path: a fleet to use again, or None for a new one in `directory`.
        profile: where to write a profile of the bridge's event loop.
        postgres: where the bridge stores; None for SQLite.
        tell: told of each step.

    Raises:
        SystemExit: something that it takes is missing; it says what.
        RuntimeError: the bridge or the load generator ended.
        OSError, TimeoutError: connections failed.
    """
    require_files(plan.cars)
    fleet_path = fleet_path or directory / "fleet"
    fleet_path.parent.mkdir(parents=True, exist_ok=True)
    state = directory / "state"
    state.mkdir(parents=True)
    program = build_program(directory)
    fleet = make_fleet(fleet_path, plan.cars)
    tell(f"{plan.cars} cars issued")
    cars = make_cars(fleet, plan.cars, frames=plan.frames, entry_each=plan.entry_each)
    tell(f"{plan.frames} frames signed")
    identity = TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER)
    names = frozenset(car.name for car in cars)
    async with EmbeddedBroker(
        directory=directory / "broker",
        identity=identity,
        access=BrokerAccess(is_vehicle=names.__contains__),
        clock=wall_clock,
        kind=BrokerKind.MOSQUITTO,
    ) as broker:
        url = None if postgres is None else postgres.make_database()
        bridge = BridgeProcess(fleet.path, state, broker.port, url)
        try:
            anchors = fleet.path / FleetPart.TRUST_ANCHORS
            swarm = Swarm(
                cars,
                port=broker.port,
                trust_anchors=anchors,
                program=program,
                directory=directory,
            )
            try:
                beside = Beside(broker.pid or 0, postgres)
                run = _Run(plan, bridge, swarm, cars, beside, directory)
                return run.measure(profile, tell)
            finally:
                swarm.close()
        finally:
            bridge.stop()


@dataclass(frozen=True, slots=True)
class Beside:
    """What the bridge works with, and what that has spent."""

    broker_pid: int
    postgres: Server | None

    def broker_s(self) -> float:
        """Return the CPU time of the broker."""
        return _spent_s(self.broker_pid)

    def database_s(self) -> float:
        """Return the CPU time of PostgreSQL and of the processes that it has now."""
        if self.postgres is None or self.postgres.process is None:
            return 0.0
        pid = self.postgres.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return sum(map(_spent_s, [pid, *map(int, children)]))


@dataclass(frozen=True, slots=True)
class _Run:
    """What runs while it is measured."""

    plan: Plan
    bridge: BridgeProcess
    swarm: Swarm
    cars: list[BenchCar]
    beside: Beside
    directory: Path

    def measure(self, profile: Path | None, tell: Callable[[str], None]) -> Outcome:
        """Connect, publish, wait for the rest, and count."""
        connect_s = self.swarm.connect(timeout_s=CONNECT_S)
        self.swarm.settle(3.0)
        tell(f"{self.plan.cars} cars connected in {connect_s:.1f} s")
        if profile is not None:
            self.bridge.ask("profile")
        before, broker_before = self.bridge.ask("used"), self.beside.broker_s()
        database_before = self.beside.database_s()
        batches_before = self.bridge.ask("count")["batches"]

        def is_committed() -> bool:
            return bool(self.bridge.ask("count")["committed"] >= self.plan.frames)

        took_s = self.swarm.run(
            rate=self.plan.rate, is_committed=is_committed, drain_s=DRAIN_S
        )
        after, broker_s = (
            self.bridge.ask("used"),
            self.beside.broker_s() - broker_before,
        )
        database_s = self.beside.database_s() - database_before
        if profile is not None:
            self.bridge.ask(f"profiled {profile}")
        counted = self.bridge.ask("count")
        resident_mb = self.bridge.ask(f"log {self.directory / 'commits'}")[
            "resident_mb"
        ]
        latencies, committed = _latencies(
            self.plan, self.swarm, self.directory / "commits"
        )
        warm = int(len(self.swarm.receipt_ms) * self.plan.warm_s / self.plan.seconds)
        threads = {
            name: (spent - before["threads_s"].get(name, 0.0)) / self.plan.frames * 1e6
            for name, spent in after["threads_s"].items()
        }
        bare_s = threads.pop(BARE_THREAD, 0.0) * self.plan.frames / 1e6
        calls = after["bare_calls"] - before["bare_calls"]
        bridge_s = after["process_s"] - before["process_s"] - bare_s
        entries = entries_of(self.cars)
        return Outcome(
            self.plan,
            connect_s,
            took_s,
            self.plan.frames,
            self.swarm.acknowledged - self.plan.cars,
            committed,
            counted["rejected"],
            entries,
            entries - self.swarm.unreceipted,
            _summary(latencies),
            _summary(self.swarm.receipt_ms[warm:]),
            self.swarm.late_ms,
            (after["bare_s"] - before["bare_s"]) / max(calls, 1) * 1e6,
            bridge_s / self.plan.frames * 1e6,
            threads,
            broker_s / self.plan.frames * 1e6,
            database_s / self.plan.frames * 1e6,
            self.swarm.spent_s / self.plan.frames * 1e6,
            resident_mb,
            os.getloadavg()[0],
            self.plan.frames / max(counted["batches"] - batches_before, 1),
        )


def _latencies(plan: Plan, swarm: Swarm, path: Path) -> tuple[list[float], int]:
    """Return ms from publish to the first commit, and how many frames have one."""
    numbers, times = array("Q"), array("d")
    count = path.stat().st_size // 16
    with path.open("rb") as file:
        numbers.fromfile(file, count)
        times.fromfile(file, count)
    first: dict[int, float] = {}
    for number, at_s in zip(numbers, times, strict=True):
        first.setdefault(number, at_s)
    cold = int(plan.rate * plan.warm_s)
    found = [
        (at_s - swarm.published_s[number]) * 1e3
        for number, at_s in first.items()
        if number >= cold
    ]
    return found, len(first)


def _summary(samples: Sequence[float]) -> tuple[float, float, float]:
    if not samples:
        return (0.0, 0.0, 0.0)
    return percentile(samples, 0.5), percentile(samples, 0.99), max(samples)


def _spent_s(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    spent = (int((t / "schedstat").read_text("ascii").split()[0]) for t in tasks)
    return sum(spent) / 1e9


def figures_of(outcome: Outcome) -> list[Figure]:
    """Return an outcome as figures of the benchmark's table."""
    plan = outcome.plan
    cpu = "CPU for each frame"
    lost = (
        f"{outcome.published} published, {outcome.committed} committed; "
        f"{outcome.entries} entries, {outcome.receipted} receipted"
    )
    parts = sorted(outcome.parts_us.items(), key=lambda part: -part[1])
    # The bound is for telemetry; an entry has a receipt and an event besides.
    has_bound = plan.entry_each == 0 or plan.entry_each >= ENTRY_EACH
    receipts = (
        ("publish to receipt, p50", outcome.receipt_ms[0], "ms", ""),
        ("publish to receipt, p99", outcome.receipt_ms[1], "ms", "at most 150"),
    )
    rows: list[tuple[str, float, str, str]] = [
        ("bare verification", outcome.bare_us, "µs", "CPU, in the working bridge"),
        ("bridge, all included", outcome.bridge_us, "µs", cpu),
        *(
            (f"  of it {PARTS.get(name, name)}", spent, "µs", "")
            for name, spent in parts
            if spent > PART_LEAST_US
        ),
        (
            "bridge / bare verification",
            outcome.ratio,
            "x",
            f"at most {RATIO_MOST}"
            if has_bound
            else f"one entry in {plan.entry_each} frames",
        ),
        ("frames in a transaction", outcome.batch_frames, "", "on average"),
        ("mosquitto", outcome.broker_us, "µs", cpu),
        *(
            (("PostgreSQL", outcome.database_us, "µs", cpu),)
            if outcome.database_us
            else ()
        ),
        ("load generator", outcome.generator_us, "µs", cpu),
        (
            "published",
            outcome.published / outcome.published_s,
            "1/s",
            f"of {plan.rate:.0f} wanted",
        ),
        ("publish to commit, p50", outcome.commit_ms[0], "ms", ""),
        ("publish to commit, p99", outcome.commit_ms[1], "ms", "at most 100"),
        *(receipts if outcome.entries else ()),
        ("lost", float(outcome.lost), "", lost),
    ]
    return [
        Figure(f"{plan.cars} cars: {name}", value, unit, 0.0, note)
        for name, value, unit, note in rows
    ]


def document_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome for a program."""
    return {**asdict(outcome), "ratio": outcome.ratio, "lost": outcome.lost}
