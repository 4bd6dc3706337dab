"""A fleet of two cars that nobody drives, a real broker, and a bridge under test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bridge.bootstrap import open_bridge
from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.fleet import FleetPart
from tools.bridge_settings import KEYS_FILE, local_settings
from tools.clock import wall_clock
from tools.conformance.bridge import CHECKS
from tools.conformance.bridge_player import Player
from tools.conformance.bridge_subject import (
    BRIDGE_SUITE,
    Patience,
    PlayedCar,
    Subject,
)
from tools.conformance.report import tell_progress
from tools.conformance.run import Run, run_checks
from tools.conformance.verdict import Verdict, by_clause, verdict_of
from transport.tls import TlsIdentity


@asynccontextmanager
async def laboratory(
    path: Path, *, broker: str, patience: Patience, rotate: bool = True
) -> AsyncIterator[Subject]:
    """Yield our bridge as the kit reaches it."""
    fleet = await asyncio.to_thread(
        FleetDirectory.create, path / "fleet", name="lab", now=wall_clock()
    )
    ids = [random_vehicle_id() for _ in range(2)]
    await asyncio.to_thread(issue_vehicles, fleet, ids, now=wall_clock())
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(
            EmbeddedBroker(
                directory=path / "broker",
                identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
                access=BrokerAccess(is_vehicle=frozenset(map(str, ids)).__contains__),
                clock=wall_clock,
                kind=broker,
            )
        )
        address = (embedded.host, embedded.port)
        settings = local_settings(
            fleet.path, state=path / "bridge", broker=address, api=("127.0.0.1", 0)
        )
        bridge = await stack.enter_async_context(open_bridge(settings))
        await bridge.wait_connected()
        cars = [
            PlayedCar(Player(fleet.vehicle_directory(one)), address, patience)
            for one in ids
        ]
        subject = Subject(
            cars[0],
            cars[1],
            order_url=bridge.api_url,
            api_key=(path / "bridge" / KEYS_FILE).read_text(encoding="ascii").strip(),
            may_rotate=rotate,
        )
        yield await stack.enter_async_context(subject)


async def examined(subject: Subject) -> Run:
    """Run the whole suite, which the import of `CHECKS` has filled."""
    assert CHECKS
    return await run_checks(BRIDGE_SUITE.checks, subject, observe=tell_progress)


def with_verdict(run: Run, verdict: Verdict) -> dict[str, str]:
    """Return the clauses that came to a verdict, with what came."""
    return {
        clause: "; ".join(f"{one.check}: {one.came}" for one in found)
        for clause, found in by_clause(run.findings).items()
        if verdict_of(found) is verdict
    }
