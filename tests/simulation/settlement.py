"""What must hold when the link has healed: all ledgers are equal on both sides."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Final

from bridge.cloud_event import BROKEN_TYPE, FORKED_TYPE, REPLACED_TYPE
from bridge.commands import CommandRecord
from bridge.compound import is_needless
from bridge.errors import StoreError
from protocol.codes import Executed
from tests.simulation.bridge import SimulatedBridge
from tests.simulation.broker import Broker
from tests.simulation.desk import Desk
from tests.simulation.oracle import Oracle, Watched
from tests.simulation.violation import Violation

PATIENCE_S: Final = 400.0
"""Virtual seconds after which a healed world must have settled: cars and bridge wait
up to two minutes between attempts to connect."""

LOOK_S: Final = 3.0

HELLO_S: Final = 20.0
"""After which a car is made to greet anew: only a hello settles what was unknown."""

RENTAL_ENDED: Final = "freefloat.rental.ended"
ALARMS: Final = frozenset({FORKED_TYPE, BROKEN_TYPE, REPLACED_TYPE})
"""What no honest car gives cause to."""


class Settlement:
    """Waits until both sides agree, then compares them."""

    def __init__(
        self,
        *,
        desks: Sequence[Desk],
        bridge: SimulatedBridge,
        broker: Broker,
        oracle: Oracle,
    ) -> None:
        self._desks = desks
        self._bridge = bridge
        self._broker = broker
        self._oracle = oracle
        self._settled: list[int] = []
        """How many entries each car had written when nothing was open."""

    async def wait(self) -> None:
        """Return when nothing is open any more.

        Raises:
            Violation: something still is, after `PATIENCE_S`.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        greeted_s = began_s
        missing = ""
        while loop.time() - began_s < PATIENCE_S:
            await asyncio.sleep(LOOK_S)
            if self._oracle.failure is not None:
                return
            settled = self._heads()
            missing = await self._missing()
            if not missing:
                self._settled = settled
                return
            if loop.time() - greeted_s >= HELLO_S:
                greeted_s = loop.time() + PATIENCE_S / 4
                for desk in self._desks:
                    self._broker.cut(desk.car.client)
        raise Violation(f"I-10, I-21: not settled after {PATIENCE_S:.0f} s: {missing}")

    async def _missing(self) -> str:
        for desk in self._desks:
            watched = self._oracle.cars[desk.car.client]
            missing = self._missing_of(desk, watched)
            if missing:
                return missing
            for record in await self._records(desk):
                if not record.state.is_terminal:
                    return f"{record.kind} for {watched.car.name} is {record.state}"
        return await self._missing_at_bridge()

    async def _missing_at_bridge(self) -> str:
        process = self._bridge.process
        if process is None:
            return "the bridge is not there"
        try:
            # Who ordered may have left before the answer: no desk knows that command.
            for record in await process.store.open_commands():
                return f"{record.kind} is {record.state}, and nobody waits for it"
            for desk in self._desks:
                vehicle_id = desk.car.identity.vehicle_id
                if await process.store.wanted_configurations(vehicle_id):
                    return f"a configuration has not come to {desk.car.name}"
            _, newest = await process.store.outbox_span()
            if await process.store.cursor(self._bridge.consumer.name) < newest:
                return "the consumer has not got everything"
        except StoreError as error:
            return str(error)
        return ""

    def _missing_of(self, desk: Desk, watched: Watched) -> str:
        gateway, name = desk.car.gateway, watched.car.name
        if gateway is None:
            return f"{name} is not there"
        standing = gateway._runtime._standing
        head = standing.head.seq
        if not head:
            return f"{name} has not begun"
        if standing.receipted != head:
            return f"{name} has a receipt up to {standing.receipted} of {head}"
        return ""

    async def _records(self, desk: Desk) -> list[CommandRecord]:
        process = self._bridge.process
        if process is None:
            return []
        found = [await process.store.command(one) for one in desk.ordered]
        whole = [record for record in found if record is not None]
        for record in tuple(whole):
            for part in record.parts:
                known = await process.store.command(part.command_id)
                if known is not None:
                    whole.append(known)
        return whole

    # -- the verdict ---------------------------------------------------------------

    async def judge(self) -> None:
        """Compare both sides once they have settled.

        Cars go on meanwhile: an entry that one writes by its own clock while both sides
        are read is on its way, and no difference.

        Raises:
            Violation: they differ.
        """
        while True:
            try:
                await self._judge_all()
            except Violation:
                is_final = self._oracle.failure is not None
                if is_final or self._heads() == self._settled:
                    raise
                await self.wait()
            else:
                break
        for desk in self._desks:
            for record in await self._records(desk):
                self._oracle.trace.count(f"commands {record.state}")

    def _heads(self) -> list[int]:
        """Return how many entries each car has written."""
        gateways = [desk.car.gateway for desk in self._desks]
        return [0 if one is None else one._runtime.head.seq for one in gateways]

    async def _judge_all(self) -> None:
        for desk in self._desks:
            watched = self._oracle.cars[desk.car.client]
            self._judge_ledger(desk, watched)
            await self._judge_commands(desk, watched)
            self._judge_events(desk, watched)
            await self._judge_rentals(watched)
        for error in self._bridge.process.failures() if self._bridge.process else ():
            raise Violation(f"a part of the bridge ended by {error!r}") from error

    def _judge_ledger(self, desk: Desk, watched: Watched) -> None:
        told, name = watched.told, watched.car.name
        gateway = desk.car.gateway
        head = 0 if gateway is None else gateway._runtime.head.seq
        kept = self._oracle.kept(desk.car.client, told.ledger_id, 1, 1 << 60)
        if len(kept) != head:
            raise Violation(f"I-21: the bridge has {len(kept)} of {head} of {name}")
        for seq, frame in told.frames.items():
            if kept[seq - 1] != frame:
                raise Violation(f"I-27: entry {seq} of {name} is another at the bridge")

    async def _judge_commands(self, desk: Desk, watched: Watched) -> None:
        told, name = watched.told, watched.car.name
        records = {record.command_id: record for record in await self._records(desk)}
        for msg_id, command in watched.accepted.items():
            kind = type(command.command).__name__
            result, record = told.results.get(msg_id), records.get(msg_id)
            if result is None:
                raise Violation(f"I-10: {name} took a {kind} and gave no result")
            if record is not None and record.code is not result.code:
                raise Violation(
                    f"I-11: {kind} of {name} ended {result.code.name}, the bridge says "
                    f"{record.code}"
                )
            if result.executed is Executed.NO and result.code.name == "OK":
                raise Violation(f"I-10: {kind} of {name} is done and not executed")
        for record in records.values():
            desk.judge(record)
            if record.parts:
                first = records.get(record.parts[0].command_id)
                self._oracle.promises.judge_compound(
                    watched, record, needless=is_needless(record, first)
                )

    def _judge_events(self, desk: Desk, watched: Watched) -> None:
        """I-21, I-25, I-26: each entry once, and in the ledger's order."""
        client, name = desk.car.client, watched.car.name
        seen: set[str] = set()
        first: list[int] = []
        ended = Counter[str]()
        for row in self._bridge.consumer.taken:
            if str(row.vehicle_id) != client or row.event_id in seen:
                continue
            seen.add(row.event_id)
            if row.type in ALARMS:
                raise Violation(f"I-27: {row.type} of {name}, which did nothing wrong")
            event = json.loads(row.body)
            sequence = int(event["sequence"])
            if "evidence" not in event["data"] or not sequence:
                continue
            first.append(sequence)
            if row.type == RENTAL_ENDED:
                ended[event["data"]["rental_id"]] += 1
        if first != sorted(first):
            raise Violation(f"I-25: the consumer got entries of {name} out of order")
        if len(first) != len(set(first)):
            raise Violation(f"I-26: an entry of {name} has two events")
        gateway = desk.car.gateway
        head = 0 if gateway is None else gateway._runtime.head.seq
        if first != list(range(1, head + 1)):
            raise Violation(f"I-26: of {head} entries of {name} {len(first)} were told")
        wanted = {rental_id.hex(): 1 for rental_id in watched.told.ended}
        if any(ended[one] != 1 for one in wanted) or max(ended.values(), default=1) > 1:
            raise Violation(
                f"I-21: ends of rentals of {name} were not told exactly once"
            )

    async def _judge_rentals(self, watched: Watched) -> None:
        process = self._bridge.process
        if process is None:
            return
        for rental_id, report in watched.told.ended.items():
            rental = await process.store.rental(rental_id)
            if rental is None or rental.state != "ended" or rental.report is None:
                raise Violation(f"I-21: the bridge has no report of {watched.car.name}")
            if rental.report["total_ms"] != report.total_ms:
                raise Violation(f"I-21: {watched.car.name}'s report is another one")
