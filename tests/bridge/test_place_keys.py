"""Keys of places: a place without its key is erased, in old backups too (K26)."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Row, select

from bridge import schema
from bridge.backup import back_up, restore
from bridge.errors import SettingsError
from bridge.place_seal import SEALED_SIZE, new_key, open_place, seal_place
from bridge.rows.places import WITH_KEYS
from certs.fleet import FleetDirectory
from protocol.codes import AccessMeans, FrameClass
from protocol.event import RentalStarted
from protocol.place import EventPlace, Place
from tests.bridge.car import RENTAL
from tests.bridge.test_places import (
    PLACE,
    SALT,
    STARTED,
    _entry,
    _frame,
    _frames,
    _keys,
    _told,
    assert_chain,
)
from tests.bridge.test_restoration import Engine, bridge, engine
from tests.bridge.world import NOW_MS, World

__all__ = ["engine"]

VEHICLE = "A" * 26
OTHER_RENTAL = bytes(range(16, 32))
OTHER = RentalStarted(OTHER_RENTAL, AccessMeans.CARD, 2_000_000, 60, 80, 400)


async def tell_both(world: World) -> list[bytes]:
    """Let two rentals begin, each at its place; return the frames of the first."""
    await world.greet()
    frames = []
    for body in (STARTED, OTHER):
        place = _frame(world, _told(world, world.car.seq + 1))
        frames.append(place)
        await world.say(FrameClass.TELEM, place)
        frames.append(_entry(world, body))
        await world.say(FrameClass.EVENT, frames[-1])
    return frames[:2]


async def test_what_was_erased_is_unreadable_in_a_backup_made_before(
    fleet: FleetDirectory, engine: Engine
) -> None:
    """K26, row 37: with the newest keys, which are the only ones that are kept."""
    fleet_id = fleet.fleet.fleet_id
    async with bridge(fleet, engine, "before") as world:
        frames = await tell_both(world)
        before, keys = await world.store.places(RENTAL), await world.store.read(_keys)
        engine.back_up("old")
        await world.store.erase_places(RENTAL)
        engine.back_up("new")
        [kept] = await world.store.read(_keys)
        car = world.car
    copies = [copy.read_bytes() for copy in engine.files.iterdir()]

    engine.lose_and_restore(fleet_id, "old")

    async with bridge(fleet, engine, "after", car) as world:
        erased, other = [
            await world.store.places(rental) for rental in (RENTAL, OTHER_RENTAL)
        ]
        # A broker that kept the frames cannot bring it back.
        await world.say(FrameClass.TELEM, frames[0])
        await world.say(FrameClass.EVENT, frames[1])
        again = await world.store.places(RENTAL)
        sealed = {row.rental_id: row.sealed for row in await world.store.read(_rows)}
        assert_chain(world, await world.store.read(_frames))

    assert before == {1: EventPlace(car.ledger_id, 1, SALT, PLACE)}
    assert len(copies) == 2
    for copy in copies:
        assert all(key not in copy for key in keys)
        assert all(key.hex().encode() not in copy for key in keys)
    assert (erased, again, sealed[RENTAL]) == ({}, {}, None)
    assert other == {2: EventPlace(car.ledger_id, 2, SALT, PLACE)}
    assert kept in keys


def _rows(connection: Connection) -> list[Row[Any]]:
    return list(connection.execute(select(schema.places)))


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(one.name for one in folder.glob(pattern))


async def test_a_backup_without_keys_tells_no_place_and_all_else(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K26
    path, copy = tmp_path / "bridge.sqlite", tmp_path / "copy"
    async with World(fleet, path) as world:
        await tell_both(world)
        back_up(path, copy)
        await world.store.erase_places(OTHER_RENTAL)
        car = world.car
    restore(path, copy, fleet_id=fleet.fleet.fleet_id, now=NOW_MS)
    async with World(fleet, path) as world:
        world.car = world.cars[0] = car
        places = await world.store.places(RENTAL)
        assert_chain(world, await world.store.read(_frames))

    assert places == {}
    assert names(tmp_path, "*copy*") == ["copy"]


async def test_keys_that_are_no_keys_leave_the_store_in_its_place(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    path, copy, keys = (tmp_path / name for name in ("bridge.sqlite", "copy", "keys"))
    async with World(fleet, path) as world:
        await tell_both(world)
        back_up(path, copy, keys=keys)
    before = path.read_bytes()
    keys.write_bytes(b"no keys " * 1_000)

    with pytest.raises(SettingsError, match="was not restored"):
        restore(path, copy, fleet_id=fleet.fleet.fleet_id, now=NOW_MS, keys=keys)
    keys.unlink()
    with pytest.raises(SettingsError, match=r"there is no backup .*keys"):
        restore(path, copy, fleet_id=fleet.fleet.fleet_id, now=NOW_MS, keys=keys)

    assert path.read_bytes() == before
    assert names(tmp_path, ".*") == []


async def test_a_place_that_is_written_again_keeps_its_key(world: World) -> None:
    # Else an older backup would not open with the newest keys.
    await world.greet()
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    early = await world.store.read(_keys)
    [first] = await world.store.read(lambda c: list(c.execute(WITH_KEYS)))
    await world.say(FrameClass.EVENT, _entry(world, STARTED))
    [second] = await world.store.read(lambda c: list(c.execute(WITH_KEYS)))

    assert await world.store.read(_keys) == early
    assert first.sealed != second.sealed, "no nonce is used twice"


@given(
    key=st.binary(min_size=32, max_size=32),
    seq=st.integers(0, 2**63 - 1),
    latitude_e7=st.integers(-900_000_000, 900_000_000),
)
def test_a_seal_opens_beside_its_own_entry_with_its_own_key_alone(
    key: bytes, seq: int, latitude_e7: int
) -> None:
    # K26
    told = EventPlace(bytes(8), seq, SALT, Place(latitude_e7, 0, None, 0))
    sealed = seal_place(key, VEHICLE, told)
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])

    assert len(sealed) == SEALED_SIZE
    assert open_place(key, VEHICLE, bytes(8), seq, sealed) == told
    assert open_place(new_key(), VEHICLE, bytes(8), seq, sealed) is None
    assert open_place(key, "B" * 26, bytes(8), seq, sealed) is None
    assert open_place(key, VEHICLE, b"another!", seq, sealed) is None
    assert open_place(key, VEHICLE, bytes(8), seq + 1, sealed) is None
    assert open_place(key, VEHICLE, bytes(8), seq, flipped) is None
    assert open_place(key, VEHICLE, bytes(8), seq, b"") is None
