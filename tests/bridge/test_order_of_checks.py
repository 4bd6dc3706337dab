"""Verify before dedup before store before forward, by relations (I-24, I-21).

What an attacker adds to a stream (forged, foreign, retained, cut, misrouted frames, and
any number of copies of genuine ones) changes nothing that is stored, told or receipted,
however the broker cuts the stream into batches. What was not believed is kept as it
came.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from bridge import schema
from bridge.instant import Instant
from bridge.key_book import EMPTY
from bridge.prover import Prover
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Store
from bridge.verifier import Verifier
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import Car
from tests.bridge.stream import BODIES, entries_of
from tests.bridge.world import BOOT_MS, NOW_MS, World

if TYPE_CHECKING:
    from bridge.committed import Committed

NOISES: Final = (
    "flipped",
    "cut",
    "retained",
    "other topic",
    "other car",
    "other class",
    "copy",
)

SIZES: Final = st.lists(st.integers(1, 6), min_size=1, max_size=5)
"""Of the batches, again and again."""

NOISE: Final = st.lists(
    st.tuples(
        st.sampled_from(NOISES),
        st.integers(0, len(BODIES) - 1),
        st.integers(0, len(BODIES)),
    ),
    max_size=12,
)


@dataclass(frozen=True)
class Arrival:
    """A message as the broker hands it over."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True)
class Outcome:
    """What is left behind."""

    told: tuple[tuple[str, str, bytes], ...]
    stored: tuple[bytes, ...]
    upto: int
    head_hash: bytes
    letters: Counter[tuple[str, bytes]]
    """Topics and bytes that were not believed."""


def disturb(
    kind: str, genuine: Sequence[bytes], which: int, cars: list[Car]
) -> Arrival:
    car, other = cars[0], cars[1]
    data, topic = genuine[which], car.topic(FrameClass.EVENT)
    changed = bytearray(data)
    changed[100 + which] ^= 1
    # Signed by another car of the fleet for the victim's place in its ledger.
    forged = other.sign(
        FrameClass.EVENT,
        0x8114,
        bytes(52),
        seq=which + 1,
        vehicle_id=car.id,
    )
    return {
        "flipped": Arrival(topic, bytes(changed)),
        "cut": Arrival(topic, data[:-1]),
        "retained": Arrival(topic, data, retain=True),
        "other topic": Arrival(other.topic(FrameClass.EVENT), data),
        "other class": Arrival(car.topic(FrameClass.RESULT), data),
        "other car": Arrival(topic, forged),
        "copy": Arrival(topic, data),
    }[kind]


def batches(
    arrivals: Sequence[Arrival], sizes: Sequence[int]
) -> Iterator[Sequence[Arrival]]:
    first = 0
    while first < len(arrivals):
        for size in sizes:
            if batch := arrivals[first : first + size]:
                yield batch
            first += size


async def left_behind(
    world: World, arrivals: Sequence[Arrival], sizes: Sequence[int]
) -> Outcome:
    """Judge and commit batch after batch, with a store of their own."""
    fleet_id = world.fleet.fleet.fleet_id
    prover = Prover(world.registry, fleet_id=fleet_id, verifier=Verifier())
    with tempfile.TemporaryDirectory() as directory:
        store = Store(SqliteDatabase(Path(directory) / "s"), fleet_id=fleet_id)
        store.open()
        try:
            committed: list[Committed] = [
                await store.commit_batch(
                    prover.judge(prover.ask(batch, EMPTY), EMPTY),
                    published={},
                    receipts=[],
                    at=Instant.written(NOW_MS),
                )
                for batch in batches(arrivals, sizes)
            ]
            rows = await store.outbox_after(0, 100)
            receipts = [due.receipt for batch in committed for due in batch.receipts]
            query = select(schema.frames.c.data).order_by(schema.frames.c.seq)
            stored = await store.look(lambda c: c.execute(query).scalars().all())
            return Outcome(
                tuple((row.event_id, row.type, row.body) for row in rows),
                tuple(bytes(data) for data in stored),
                receipts[-1].upto,
                receipts[-1].head_hash,
                Counter((one.topic, one.data) for one in await store.dead_letters()),
            )
        finally:
            prover.close()
            await store.close()


@given(NOISE, SIZES)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_what_an_attacker_adds_changes_nothing_that_is_told(
    fleet: FleetDirectory, noise: list[tuple[str, int, int]], sizes: list[int]
) -> None:
    # I-24 (P). FF-ADR-16, FF-LED-15.
    with tempfile.TemporaryDirectory() as directory:
        world = World(fleet, Path(directory) / "unused")
        cars = [
            Car(fleet.vehicle_directory(vehicle), boot_ms=lambda: BOOT_MS)
            for vehicle in fleet.vehicle_ids()[:2]
        ]
        genuine = entries_of(cars[0])
        topic = cars[0].topic(FrameClass.EVENT)
        quiet = [Arrival(topic, data) for data in genuine]
        loud, unbelieved = list(quiet), Counter[tuple[str, bytes]]()
        for kind, which, at in noise:
            # A copy never comes before its original, or it would be the original.
            place = max(at, which + 1) if kind == "copy" else at
            arrival = disturb(kind, genuine, which, cars)
            loud.insert(loud_index(loud, quiet, place), arrival)
            if kind != "copy":
                unbelieved[arrival.topic, arrival.payload] += 1

        expected = await left_behind(world, quiet, [1])
        found = await left_behind(world, loud, sizes)

        assert found.told == expected.told
        assert found.stored == expected.stored == tuple(genuine)
        assert (found.upto, found.head_hash) == (expected.upto, cars[0].head)
        assert found.upto == len(BODIES)
        assert (expected.letters, found.letters) == (Counter(), unbelieved)


def loud_index(loud: list[Arrival], quiet: list[Arrival], place: int) -> int:
    """Return where the `place`-th genuine arrival stands among the others."""
    if place == len(quiet):
        return len(loud)
    return next(i for i, arrival in enumerate(loud) if arrival is quiet[place])
