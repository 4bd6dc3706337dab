"""Whatever a car sends, forks, breaks and gaps alarm, and nothing is merged (I-27).

A car, or whoever has its key, tells some of its entries and for some of them another
content, in any order and over any time. A model says which of it contradicts what was
stored before; the real store has to say the same, to consumers.
"""

import base64
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from bridge import schema
from bridge.cloud_event import BROKEN_TYPE, FORKED_TYPE, GAP_TYPE
from bridge.ingest import VerifiedEntry, verify
from bridge.instant import Instant
from bridge.registry import Registry
from bridge.rows.receipts import GAP_ALARM_MS
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Store
from bridge.workspace import LetterKind
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.entry import GENESIS
from protocol.event import AgentStarted
from tests.bridge.car import Car
from tests.bridge.world import BOOT_MS, NOW_MS, World

ENTRIES: Final = 6

TOLD: Final = "freefloat.agent.started"

Fact = tuple[str, int, bytes]
"""Type of an alarm, sequence, and the frame that is its evidence."""

ARRIVALS: Final = st.lists(
    st.lists(
        st.tuples(st.integers(1, ENTRIES), st.sampled_from((False, False, True))),
        max_size=5,
    ),
    max_size=5,
)
"""By time: which entry, and whether with another content than the car's own."""


@dataclass
class Model:
    """What a ledger is, in the fewest words."""

    stored: dict[int, VerifiedEntry] = field(default_factory=dict)
    forks: set[bytes] = field(default_factory=set)
    facts: set[Fact] = field(default_factory=set)
    upto: int = 0
    head: bytes = GENESIS

    def arrive(self, entry: VerifiedEntry) -> None:
        seq, data = entry.frame.header.seq, entry.frame.data
        known = self.stored.setdefault(seq, entry)
        if known.frame.data != data:
            self.forks.add(data)
            self.facts.add((FORKED_TYPE, seq, data))
        while (following := self.stored.get(self.upto + 1)) is not None:
            if following.link.prev_hash != self.head:
                self.facts.add((BROKEN_TYPE, self.upto + 1, b""))
                break
            self.upto, self.head = self.upto + 1, following.entry_hash

    def look(self) -> None:
        """Note what is missing, long after it should have come."""
        if any(seq > self.upto for seq in self.stored):
            self.facts.add((GAP_TYPE, self.upto + 1, b""))


def contents(car: Car, registry: Registry) -> dict[tuple[int, bool], VerifiedEntry]:
    """Return each entry of a new car, as it is and as it could be."""
    found = {}
    for seq in range(1, ENTRIES + 1):
        before = car.head
        for is_other in (True, False):
            car.seq, car.head = seq - 1, before
            data = car.event(AgentStarted(seq + 100 * is_other, bytes(4)))
            entry = verify(
                car.topic(FrameClass.EVENT),
                data,
                retain=False,
                registry=registry,
                fleet_id=car.fleet_id,
            )
            assert isinstance(entry, VerifiedEntry)
            found[seq, is_other] = entry
    return found


@given(ARRIVALS)
@settings(max_examples=25, deadline=None)
async def test_forks_breaks_and_gaps_alarm_and_nothing_is_merged(
    fleet: FleetDirectory, arrivals: Sequence[Sequence[tuple[int, bool]]]
) -> None:
    """I-27 (P), FF-LED-17, FF-LED-19."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(fleet, Path(directory) / "unused")
        [vehicle_id, *_] = fleet.vehicle_ids()
        car = Car(fleet.vehicle_directory(vehicle_id), boot_ms=lambda: BOOT_MS)
        entries = contents(car, world.registry.current)
        model, now = Model(), NOW_MS
        store = Store(SqliteDatabase(Path(directory) / "s"), fleet_id=car.fleet_id)
        store.open()
        try:
            for batch in arrivals:
                for one in batch:
                    model.arrive(entries[one])
                await store.commit_batch(
                    [entries[one] for one in batch],
                    published={},
                    receipts=[],
                    at=Instant.written(now),
                )
                now += GAP_ALARM_MS
                model.look()
                await store.tell_gaps(now=now)
            rows = await store.outbox_after(0, 1_000)
            letters = await store.dead_letters()
            query = select(schema.frames.c.seq, schema.frames.c.data)
            frames = await store.look(lambda c: c.execute(query).all())
        finally:
            await store.close()

    facts, told = set[Fact](), list[int]()
    for row in rows:
        event = json.loads(row.body)
        if row.type == TOLD:
            told.append(int(event["sequence"]))
            data = base64.b64decode(event["data"]["evidence"]["frame"])
            assert data == model.stored[told[-1]].frame.data
        else:
            frame = event["data"]["frame"] or ""
            facts.add((row.type, event["data"]["seq"], base64.b64decode(frame)))
    assert facts == model.facts
    assert told == list(range(1, model.upto + 1))
    assert {row.seq: row.data for row in frames} == {
        seq: entry.frame.data for seq, entry in model.stored.items()
    }
    assert {one.data for one in letters if one.kind is LetterKind.FORK} == model.forks
