"""A place whose entry does not come is not kept for ever, and comes with it (K25, K26).

On both engines as the bridge opens them.
"""

from typing import Any

from sqlalchemy import Connection, Row

from bridge.places import PlaceState
from bridge.rows.places import WITH_KEYS, told_of
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.place import EventPlace
from protocol.receipt import Gap
from tests.bridge.car import RENTAL, REPORT
from tests.bridge.test_places import (
    PLACE,
    STARTED,
    _bytes_of,
    _entry,
    _frame,
    _keys,
    _receipt,
    _spoiled,
    _told,
)
from tests.bridge.test_restoration import Engine, bridge, engine
from tests.bridge.test_retention import DAY_S, retention
from tests.bridge.world import World

__all__ = ["engine"]


async def tell_place(world: World, seq: int = 1) -> None:
    await world.say(FrameClass.TELEM, _frame(world, _told(world, seq)))


async def wait_days(world: World, days: int) -> None:
    world.advance(days * DAY_S)
    await retention(world).let_go()


def _rows(connection: Connection) -> list[Row[Any]]:
    return list(connection.execute(WITH_KEYS))


async def readable(world: World) -> list[EventPlace]:
    """Return every place of the store that somebody could read."""
    told = [told_of(row) for row in await world.store.read(_rows)]
    return [one for one in told if one is not None]


async def states(world: World) -> list[int]:
    return [row.state for row in await world.store.read(_rows)]


async def test_a_place_whose_entry_never_comes_is_erased_in_backups_too(
    fleet: FleetDirectory, engine: Engine
) -> None:
    """K25, K26: it has no rental, by which others go, and stayed readable for ever."""
    async with bridge(fleet, engine, "before") as world:
        await world.greet()
        await tell_place(world)
        engine.back_up("old")
        keys = await world.store.read(_keys)
        await wait_days(world, 29)
        kept = await readable(world)
        await wait_days(world, 2)
        erased, left = await readable(world), await world.store.read(_keys)
        sealed = [row.sealed for row in await world.store.read(_rows)]
        engine.back_up("new")
        car = world.car
    copies = [copy.read_bytes() for copy in engine.files.iterdir()]

    engine.lose_and_restore(fleet.fleet.fleet_id, "old")

    async with bridge(fleet, engine, "after", car) as world:
        restored = await readable(world)
        await tell_place(world)
        again = await readable(world)

    assert kept == [EventPlace(car.ledger_id, 1, _told(world, 1).salt, PLACE)]
    assert (erased, left, sealed) == ([], [], [None])
    assert len(copies) == 2
    assert not any(key in copy for copy in copies for key in keys)
    assert (restored, again) == ([], [])


async def test_an_early_place_that_was_erased_stands_in_no_file_of_the_store(
    world: World,
) -> None:
    # K26: nor in a dead letter, kept as it came and not believed.
    await world.greet()
    spoiled, of_another = (
        _spoiled(_frame(world, _told(world, seq))) for seq in (1, 99)
    )
    await world.say(FrameClass.TELEM, spoiled, of_another)
    await tell_place(world)
    [key] = await world.store.read(_keys)
    before = _bytes_of(world.path)

    await wait_days(world, 31)

    after = _bytes_of(world.path)
    assert (key in before, spoiled in before) == (True, True)
    assert (key in after, spoiled in after) == (False, False)
    assert [one.data for one in await world.store.dead_letters()] == [of_another]


async def test_a_place_whose_entry_came_in_time_goes_with_its_rental(
    fleet: FleetDirectory, engine: Engine
) -> None:
    # K25: however long it waited before.
    async with bridge(fleet, engine, "test") as world:
        await world.greet()
        await tell_place(world)
        await wait_days(world, 29)
        await world.say(FrameClass.EVENT, _entry(world, STARTED))
        receipted = (await _receipt(world)).upto
        await wait_days(world, 29)
        await world.say(FrameClass.EVENT, world.car.event(REPORT))
        await wait_days(world, 29)
        kept = await world.store.places(RENTAL)
        told = _told(world, 1)
        await wait_days(world, 2)
        in_the_end = await readable(world)

    assert receipted == 1
    assert kept == {1: told}
    assert in_the_end == []


async def test_a_car_that_repeats_a_place_does_not_keep_it(
    fleet: FleetDirectory, engine: Engine
) -> None:
    # K25: neither before it is erased nor afterwards, until its entry comes.
    async with bridge(fleet, engine, "test") as world:
        await world.greet()
        found = []
        for _ in range(4):
            await tell_place(world)
            await wait_days(world, 9)
            found.append(len(await readable(world)))
        await tell_place(world)
        again, keys = await readable(world), await world.store.read(_keys)
        was = await states(world)

    assert found == [1, 1, 1, 0]
    assert (again, keys) == ([], [])
    assert was == [PlaceState.LAPSED]


async def test_an_entry_that_comes_after_its_place_was_erased_gets_it_anew(
    fleet: FleetDirectory, engine: Engine
) -> None:
    """FF-PLC-06: the car sends both again, since it has no receipt."""
    async with bridge(fleet, engine, "test") as world:
        await world.greet()
        await tell_place(world)
        await wait_days(world, 31)
        await tell_place(world)
        entry = _entry(world, STARTED)
        await world.say(FrameClass.EVENT, entry)
        waiting = await _receipt(world)
        before = await readable(world)
        await tell_place(world)
        await world.say(FrameClass.EVENT, entry)
        after = await _receipt(world)
        kept, told = await world.store.places(RENTAL), _told(world, 1)
        await wait_days(world, 29)
        await world.say(FrameClass.EVENT, world.car.event(REPORT))
        await wait_days(world, 29)
        later = await world.store.places(RENTAL)
        await wait_days(world, 2)
        in_the_end = await readable(world)

    assert (waiting.upto, waiting.gaps) == (0, (Gap(1, 1),))
    assert before == []
    assert (after.upto, after.gaps) == (1, ())
    assert kept == later == {1: told}
    assert in_the_end == []


async def test_an_entry_whose_early_place_was_erased_is_receipted_without_it_in_the_end(
    world: World,
) -> None:
    # FF-PLC-06: a car that has lost the place must not keep the entry for ever.
    await world.greet()
    await tell_place(world)
    await wait_days(world, 31)
    entry = _entry(world, STARTED)
    receipts = []
    for _ in range(3):
        await world.say(FrameClass.EVENT, entry)
        receipts.append((await _receipt(world)).upto)

    assert receipts == [0, 0, 1]
    assert await states(world) == [PlaceState.MISSING]
