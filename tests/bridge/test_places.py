"""Places at the bridge: checked, kept apart, awaited, erased (K25, K26, FF-PLC)."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Connection, select

from bridge import schema
from bridge.cloud_event import CONTRADICTED_TYPE
from bridge.places import AHEAD_LIMIT
from bridge.postgres_database import PostgresDatabase
from certs.fleet import FleetDirectory
from protocol.codes import AccessMeans, FrameClass, FrameType
from protocol.entry import GENESIS, entry_hash, split_entry
from protocol.event import EventBody, Parked, RentalStarted, parse_event
from protocol.frame import parse_frame
from protocol.keys import VerifyKey
from protocol.place import EVENT_PLACE, NO_PLACE, EventPlace, Place, commitment_of
from protocol.receipt import Gap, Receipt
from protocol.signing import verify_frame
from tests.bridge.car import RENTAL, receipt_of
from tests.bridge.world import World
from tests.postgres import running_server

PLACE: Final = Place(481_371_540, 115_761_240, 35, 2)
SALT: Final = bytes.fromhex("5a17" * 8)
STARTED: Final = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)
PARKED: Final = Parked(RENTAL, AccessMeans.CARD, 1_005_000)


def _told(world: World, seq: int, place: Place = PLACE) -> EventPlace:
    return EventPlace(world.car.ledger_id, seq, SALT, place)


def _entry(world: World, body: RentalStarted | Parked) -> bytes:
    """Return the next entry, which commits to `PLACE`."""
    told = _told(world, world.car.seq + 1)
    return world.car.event(
        replace(body, place_commitment=commitment_of(world.car.id, told))
    )


def _frame(world: World, told: EventPlace) -> bytes:
    world.car.batches += 1
    return world.car.sign(
        FrameClass.TELEM,
        FrameType.PLACE,
        EVENT_PLACE.build(told),
        seq=world.car.batches,
    )


async def _receipt(world: World) -> Receipt:
    return receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))


async def test_a_place_before_its_entry_is_kept_and_the_entry_receipted(
    world: World,
) -> None:
    # FF-PLC-06
    await world.greet()
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    await world.say(FrameClass.EVENT, _entry(world, STARTED))

    assert (await _receipt(world)).upto == 1
    assert await world.store.places(RENTAL) == {1: _told(world, 1)}


async def test_a_receipt_waits_for_the_place_and_asks_for_it(world: World) -> None:
    # FF-PLC-06
    await world.greet()
    first = world.car.event(replace(STARTED, place_commitment=NO_PLACE))
    parked = _entry(world, PARKED)
    await world.say(FrameClass.EVENT, first, parked)
    waiting = await _receipt(world)
    while waiting.upto == 0:
        waiting = await _receipt(world)

    assert (waiting.upto, waiting.head_hash) == (1, entry_hash(first))
    assert waiting.gaps == (Gap(2, 2),)
    assert "freefloat.rental.parked" in await world.events()

    await world.say(FrameClass.TELEM, _frame(world, _told(world, 2)))
    after = await _receipt(world)
    assert (after.upto, after.head_hash, after.gaps) == (2, entry_hash(parked), ())


async def test_an_entry_behind_one_whose_place_is_awaited_is_not_receipted_either(
    world: World,
) -> None:
    # FF-PLC-06: also when it comes much later, and nothing of the first comes with it.
    await world.greet()
    await world.say(FrameClass.EVENT, _entry(world, STARTED))
    assert (await _receipt(world)).upto == 0
    second = world.car.event(replace(PARKED, place_commitment=NO_PLACE))
    await world.say(FrameClass.EVENT, second)
    waiting = await _receipt(world)

    assert (waiting.upto, waiting.gaps) == (0, (Gap(1, 1),))

    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    assert (await _receipt(world)).upto == 2


async def test_an_entry_that_comes_three_times_alone_is_receipted_all_the_same(
    world: World,
) -> None:
    # FF-PLC-06: a car that has lost the place must not keep the entry for ever.
    await world.greet()
    entry = _entry(world, STARTED)
    receipts = []
    for _ in range(3):
        await world.say(FrameClass.EVENT, entry)
        receipts.append((await _receipt(world)).upto)

    assert receipts == [0, 0, 1]
    assert await world.store.places(RENTAL) == {}


async def test_an_entry_without_a_place_waits_for_none(world: World) -> None:
    # FF-PLC-02
    await world.greet()
    await world.say(FrameClass.EVENT, world.car.event(STARTED))

    assert (await _receipt(world)).upto == 1


@pytest.mark.parametrize("comes_first", [True, False])
async def test_a_place_that_does_not_fit_is_an_alarm_and_not_kept(
    world: World, comes_first: bool
) -> None:
    # FF-PLC-05
    await world.greet()
    wrong = _frame(
        world, _told(world, 1, replace(PLACE, longitude_e7=PLACE.longitude_e7 + 1))
    )
    entry = _entry(world, STARTED)
    if comes_first:
        await world.say(FrameClass.TELEM, wrong)
    await world.say(FrameClass.EVENT, entry)
    if not comes_first:
        await world.say(FrameClass.TELEM, wrong)

    assert (await _receipt(world)).upto == 0
    assert CONTRADICTED_TYPE in await world.events()
    assert await world.store.places(RENTAL) == {}

    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    assert await world.store.places(RENTAL) == {1: _told(world, 1)}


async def test_another_place_for_a_kept_one_is_an_alarm_and_the_first_stays(
    world: World,
) -> None:
    # FF-PLC-05
    await world.greet()
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    await world.say(FrameClass.EVENT, _entry(world, STARTED))
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    assert CONTRADICTED_TYPE not in await world.events()

    other = replace(PLACE, latitude_e7=0)
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1, other)))

    assert CONTRADICTED_TYPE in await world.events()
    assert await world.store.places(RENTAL) == {1: _told(world, 1)}


async def test_erasing_leaves_a_ledger_that_verifies_and_no_place(
    world: World,
) -> None:
    # K26, FF-PLC-07
    await world.greet()
    bodies: tuple[EventBody, ...] = (STARTED, PARKED)
    for body in bodies:
        assert isinstance(body, RentalStarted | Parked)
        told = _told(world, world.car.seq + 1)
        await world.say(FrameClass.TELEM, _frame(world, told))
        await world.say(FrameClass.EVENT, _entry(world, body))
    assert len(await world.store.places(RENTAL)) == 2

    assert await world.store.erase_places(RENTAL) == 2

    assert await world.store.places(RENTAL) == {}
    frames = await world.store._read(_frames)
    assert len(frames) == 2
    assert_chain(world, frames)
    assert await world.store.erase_places(RENTAL) == 0


def assert_chain(world: World, frames: list[bytes]) -> None:
    previous = GENESIS
    public = VerifyKey.load(world.car.key.verify_key.raw)
    for number, data in enumerate(frames, start=1):
        frame = parse_frame(data)
        verify_frame(frame, fleet_id=world.car.fleet_id, key=public)
        link, rest = split_entry(frame.payload)
        assert (frame.header.seq, link.prev_hash) == (number, previous)
        parse_event(frame.header.type, frame.header.schema, rest)
        previous = entry_hash(data)
    assert previous == world.car.head


def _frames(connection: Connection) -> list[bytes]:
    query = select(schema.frames.c.data).order_by(schema.frames.c.seq)
    return list(connection.execute(query).scalars())


async def test_an_erased_place_stands_in_no_file_of_the_store(world: World) -> None:
    # K26: the commitment is left, and without the salt it tells nothing.
    await world.greet()
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    await world.say(FrameClass.EVENT, _entry(world, STARTED))
    [key] = await world.store.read(_keys)
    assert key in _bytes_of(world.path)
    assert SALT not in _bytes_of(world.path), "it is sealed from the first"

    await world.store.erase_places(RENTAL)

    assert key not in _bytes_of(world.path)
    commitment = commitment_of(world.car.id, _told(world, 1))
    assert commitment in _bytes_of(world.path)


def _keys(connection: Connection) -> list[bytes]:
    return list(connection.execute(select(schema.place_keys.c.key)).scalars())


def _bytes_of(path: Path) -> bytes:
    return b"".join(
        part.read_bytes() for part in sorted(path.parent.glob(f"{path.name}*"))
    )


async def test_a_place_that_was_not_believed_is_erased_with_its_rental(
    world: World,
) -> None:
    """K26: kept as it came, as before a car's record was there, and true."""
    await world.greet()
    spoiled, of_another = (
        _spoiled(_frame(world, _told(world, seq))) for seq in (1, 99)
    )
    await world.say(FrameClass.TELEM, spoiled, of_another, b"no frame")
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    await world.say(FrameClass.EVENT, _entry(world, STARTED))
    before = {letter.data for letter in await world.store.dead_letters()}

    await world.store.erase_places(RENTAL)

    after = {letter.data for letter in await world.store.dead_letters()}
    assert before - after == {spoiled}
    assert after == {of_another, b"no frame"}
    assert spoiled not in _bytes_of(world.path)


def _spoiled(frame: bytes) -> bytes:
    """Return a frame whose signature does not hold."""
    return frame[:-1] + bytes([frame[-1] ^ 1])


async def test_an_erased_place_stays_erased_whoever_sends_it_again(
    world: World,
) -> None:
    # K26: a broker that kept the frame cannot bring the place back
    await world.greet()
    frame = _frame(world, _told(world, 1))
    entry = _entry(world, STARTED)
    await world.say(FrameClass.TELEM, frame)
    await world.say(FrameClass.EVENT, entry)
    await world.store.erase_places(RENTAL)

    await world.say(FrameClass.TELEM, frame)
    await world.say(FrameClass.EVENT, entry)

    assert await world.store.places(RENTAL) == {}
    assert await world.store.read(_keys) == []


@pytest.mark.parametrize("seq", [0, AHEAD_LIMIT + 1, 2**63])
async def test_a_place_of_no_entry_that_can_come_is_not_kept(
    world: World, seq: int
) -> None:
    await world.greet()
    await world.say(FrameClass.TELEM, _frame(world, _told(world, seq)))

    def count(connection: Connection) -> int:
        return len(connection.execute(select(schema.places)).all())

    assert await world.store._read(count) == 0


async def test_a_place_enters_no_event_no_note_and_no_telemetry(world: World) -> None:
    # K25: what goes to consumers and logs tells no position
    await world.greet()
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    await world.say(FrameClass.EVENT, _entry(world, STARTED))

    def told(connection: Connection) -> list[bytes]:
        rows = connection.execute(select(schema.outbox.c.body)).scalars()
        return [*rows, *connection.execute(select(schema.telemetry.c.data)).scalars()]

    for text in await world.store._read(told):
        assert str(PLACE.latitude_e7).encode() not in text
        assert SALT not in text
    assert not any(str(PLACE.latitude_e7) in seen.note for seen in world.seen)


@pytest.mark.postgres
async def test_an_erased_place_is_gone_from_postgres_and_its_ledger_still_verifies(
    fleet: FleetDirectory,
) -> None:
    """K25, K26, FF-PLC-07: in no row at once, in no table's file after a VACUUM."""
    with running_server() as server:
        url = server.make_database()
        database = PostgresDatabase(url)
        async with World(fleet, Path("unused"), database=database) as world:
            await world.greet()
            await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
            await world.say(FrameClass.EVENT, _entry(world, STARTED))
            server.execute(url, "CHECKPOINT")
            [key] = await world.store.read(_keys)
            before = server.has_in_tables(key), server.has_in_tables(SALT)
            spoiled = _spoiled(_frame(world, _told(world, 1)))
            await world.say(FrameClass.TELEM, spoiled, b"no frame")
            erased = await world.store.erase_places(RENTAL)
            rows = server.execute(url, "SELECT sealed FROM places")
            keys = await world.store.read(_keys)
            letters = [one.data for one in await world.store.dead_letters()]
            server.execute(url, "VACUUM places")
            server.execute(url, "VACUUM place_keys")
            server.execute(url, "CHECKPOINT")
            after = server.has_in_tables(key)
            frames = await world.store.read(_frames)
            assert_chain(world, frames)

    assert before == (True, False), "the key, and no place that is readable"
    assert erased == 1
    assert rows == [(None,)]
    assert keys == []
    assert letters == [b"no frame"]
    assert not after
    commitment = commitment_of(world.car.id, _told(world, 1))
    assert commitment in frames[0], "the commitment is left"
