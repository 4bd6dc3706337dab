"""Verify before dedup before store before forward, by relations (I-24, I-21).

What an attacker adds to a stream (forged, foreign, retained, cut, misrouted frames, and
any number of copies of genuine ones) changes nothing that is stored, told or receipted.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.ingest import Rejection, Verified, verify
from bridge.instant import Instant
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Committed, Store
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import Car
from tests.bridge.stream import BODIES, entries_of
from tests.bridge.world import BOOT_MS, NOW_MS, World

NOISES: Final = (
    "flipped",
    "cut",
    "retained",
    "other topic",
    "other car",
    "other class",
    "copy",
)

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
    data: bytes
    is_retained: bool = False


@dataclass(frozen=True)
class Outcome:
    """What is left behind."""

    told: tuple[tuple[str, bytes], ...]
    stored: tuple[bytes, ...]
    upto: int
    head_hash: bytes
    letters: int


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
        "retained": Arrival(topic, data, is_retained=True),
        "other topic": Arrival(other.topic(FrameClass.EVENT), data),
        "other class": Arrival(car.topic(FrameClass.RESULT), data),
        "other car": Arrival(topic, forged),
        "copy": Arrival(topic, data),
    }[kind]


async def left_behind(world: World, arrivals: Sequence[Arrival]) -> Outcome:
    """Judge and commit each arrival by itself, with a store of their own."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(
            SqliteDatabase(Path(directory) / "s"), fleet_id=world.fleet.fleet.fleet_id
        )
        store.open()
        try:
            committed: list[Committed] = []
            for arrival in arrivals:
                record: Verified | Rejection = verify(
                    arrival.topic,
                    arrival.data,
                    retain=arrival.is_retained,
                    registry=world.registry.current,
                    fleet_id=world.fleet.fleet.fleet_id,
                )
                committed.append(
                    await store.commit_batch(
                        [record], published={}, receipts=[], at=Instant.written(NOW_MS)
                    )
                )
            rows = await store.outbox_after(0, 100)
            receipts = [due.receipt for batch in committed for due in batch.receipts]
            return Outcome(
                tuple((row.type, row.body) for row in rows),
                tuple(sorted({row.event_id.encode() for row in rows})),
                receipts[-1].upto,
                receipts[-1].head_hash,
                len(await store.dead_letters()),
            )
        finally:
            await store.close()


@given(NOISE)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_what_an_attacker_adds_changes_nothing_that_is_told(
    fleet: FleetDirectory, noise: list[tuple[str, int, int]]
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
        loud = list(quiet)
        for kind, which, at in noise:
            # A copy never comes before its original, or it would be the original.
            place = max(at, which + 1) if kind == "copy" else at
            loud.insert(
                loud_index(loud, quiet, place), disturb(kind, genuine, which, cars)
            )

        expected = await left_behind(world, quiet)
        found = await left_behind(world, loud)

        assert found.told == expected.told
        assert found.stored == expected.stored
        assert (found.upto, found.head_hash) == (expected.upto, cars[0].head)
        assert found.upto == len(BODIES)
        forged = sum(kind != "copy" for kind, _, _ in noise)
        assert (expected.letters, found.letters) == (0, forged)


def loud_index(loud: list[Arrival], quiet: list[Arrival], place: int) -> int:
    """Return where the `place`-th genuine arrival stands among the others."""
    if place == len(quiet):
        return len(loud)
    return next(i for i, arrival in enumerate(loud) if arrival is quiet[place])
