"""What one car that floods costs another one: at most a fifth of its p99 (K23).

Two cars at a mosquitto, the bridge in a process of its own. One tells ledger entries,
each when the one before has its signed receipt, and that time is measured. In every
other phase the other car sends 100 frames a second, a hundred times what a car that is
driven does: telemetry that it signed, or events whose signature does not hold.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.program import BrokerKind
from protocol.codes import FrameClass
from protocol.event import EngineStopped
from protocol.fleet import FleetPart
from tests.bench.figure import Figure
from tests.bench.fleet.campaign import BridgeProcess
from tests.bench.phases import Phases, interval, is_bad, p99
from tests.bridge.car import RENTAL, sample
from tests.bridge.conftest import make_fleet
from tests.bridge.site import Driver, driven
from tools.clock import wall_clock
from transport.tls import TlsIdentity

PHASES: Final = 20
"""Half of them with a flood."""

PHASE_S: Final = 1.5
"""How long each is measured: 30 s for each kind of flood."""

FLOOD_PER_S: Final = 100
"""A car that is driven tells a frame a second at most."""

SLOWER_MOST_PCT: Final = 20
"""K23."""

PATIENCE_S: Final = 10.0


async def measure() -> AsyncIterator[Figure]:
    """Yield the figures of this file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        fleet = make_fleet(path / "fleet", 2, now=wall_clock())
        ids = list(fleet.vehicle_ids())
        async with contextlib.AsyncExitStack() as stack:
            broker = await stack.enter_async_context(
                EmbeddedBroker(
                    directory=path / "broker",
                    identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
                    access=BrokerAccess(is_vehicle=set(map(str, ids)).__contains__),
                    clock=wall_clock,
                    kind=BrokerKind.MOSQUITTO,
                )
            )
            honest, hostile = [
                await stack.enter_async_context(
                    driven(fleet, broker, one, bundle_version=1)
                )
                for one in ids
            ]
            (path / "state").mkdir()
            bridge = await asyncio.to_thread(
                BridgeProcess, fleet.path, path / "state", broker.port
            )
            stack.push_async_callback(asyncio.to_thread, bridge.stop)
            await honest.greet()
            await hostile.greet()
            for name, frame_class, frames in _floods(hostile):
                found: Phases = {False: [], True: []}
                before = await asyncio.to_thread(bridge.ask, "count")
                for number in range(PHASES):
                    flooding = asyncio.create_task(
                        _flood(hostile, frame_class, frames if is_bad(number) else ())
                    )
                    found[is_bad(number)].append(await _phase(honest))
                    flooding.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await flooding
                after = await asyncio.to_thread(bridge.ask, "count")
                refused = after["rejected"] - before["rejected"]
                well, ill = p99(found[False]), p99(found[True])
                low, high = interval(found)
                many = sum(map(len, found[True])), sum(map(len, found[False]))
                yield Figure(
                    f"entry to receipt, p99, alone ({name})",
                    well,
                    "ms",
                    0.0,
                    f"{many[1]} entries",
                )
                yield Figure(
                    f"entry to receipt, p99, beside {name}",
                    ill,
                    "ms",
                    0.0,
                    f"{many[0]} entries; {refused} frames refused",
                )
                yield Figure(
                    f"{name}: beside / alone",
                    ill / well,
                    "x",
                    0.0,
                    f"95 of 100 draws: {low:.2f} to {high:.2f}; at most "
                    f"{1 + SLOWER_MOST_PCT / 100}",
                )


def _floods(hostile: Driver) -> Sequence[tuple[str, FrameClass, Sequence[bytes]]]:
    count = int(FLOOD_PER_S * PHASE_S)
    telemetry = [
        hostile.car.telemetry(sample(odometer_m=1_000_000 + number))
        for number in range(count)
    ]
    forged = [
        hostile.car.event(EngineStopped(RENTAL, 1_000_000 + number, 60))[:-1] + b"\0"
        for number in range(count)
    ]
    return (
        (f"{FLOOD_PER_S} samples a second", FrameClass.TELEM, telemetry),
        (f"{FLOOD_PER_S} forged events a second", FrameClass.EVENT, forged),
    )


async def _flood(
    hostile: Driver, frame_class: FrameClass, frames: Sequence[bytes]
) -> None:
    topic, begin = hostile.car.topic(frame_class), time.monotonic()
    for number, frame in enumerate(frames):
        wait_s = begin + number / FLOOD_PER_S - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        hostile.link.post(topic, frame)


async def _phase(honest: Driver) -> list[float]:
    found = []
    until_s = time.monotonic() + PHASE_S
    while time.monotonic() < until_s:
        begin = time.monotonic()
        await honest.tell(1)
        while honest.receipted < len(honest.entries):
            if time.monotonic() - begin > PATIENCE_S:
                raise RuntimeError("no receipt came")
            await asyncio.sleep(0.0005)
        found.append((time.monotonic() - begin) * 1e3)
    return found
