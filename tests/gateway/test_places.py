"""Places from the car to the fleet, with real store, runtime and uplink (FF-PLC)."""

from typing import Any, Final

from protocol.codes import FrameClass
from protocol.content import parse_content
from protocol.event import Parked, RentalEnded, RentalStarted
from protocol.frame import parse_frame
from protocol.place import NO_PLACE, EventPlace, commitment_of
from tests.gateway.fleet_end import VEHICLE, FleetEnd
from tests.gateway.world import World

PLACED: Final = RentalStarted | Parked | RentalEnded


def _commitments(fleet: FleetEnd) -> dict[int, bytes]:
    bodies: dict[int, Any] = {
        seq: parse_content(parse_frame(data)).body
        for seq, data in fleet.entries.items()
    }
    return {
        seq: body.place_commitment
        for seq, body in bodies.items()
        if isinstance(body, PLACED)
    }


async def _rented(world: World) -> None:
    await world.begin_rental()
    await world.end_rental()


async def test_start_and_end_of_a_rental_come_with_their_places() -> None:
    # K25, FF-PLC-01, FF-PLC-03
    async with World() as world:
        await _rented(world)

        commitments = _commitments(world.fleet)
        places = {told.seq: told for told, _ in world.fleet.places}
        assert len(commitments) == 2
        assert {
            seq: commitment_of(VEHICLE, told) for seq, told in places.items()
        } == commitments
        fix = world.positioning.position
        assert fix is not None
        assert {told.place.latitude_e7 for told in places.values()} == {fix.latitude_e7}
        assert len({told.salt for told in places.values()}) == 2


async def test_each_sending_of_an_entry_has_its_place_before_it() -> None:
    # FF-PLC-03
    async with World() as world:
        world.fleet.gives_receipts = False
        await _rented(world)
        for _ in range(2):
            world.air.cut()
            await world.advance(5.0)
            world.air.restore()
            await world.advance(120.0)

        fleet = world.fleet
        assert fleet.copies[max(fleet.copies)] > 2
        for seq in _commitments(fleet):
            sent = [number for number, one in enumerate(fleet.arrivals) if one == seq]
            told = [before for place, before in fleet.places if place.seq == seq]
            assert told == sent
            assert len({place for place, _ in fleet.places if place.seq == seq}) == 1


async def test_a_receipt_lets_the_car_forget_place_and_salt() -> None:
    # FF-PLC-04, K25
    world = World()
    world.fleet.gives_receipts = False
    await world.start()
    await _rented(world)
    assert world.store is not None
    kept = [e.seq for e in await world.store.entries(1, 100) if e.place is not None]
    assert kept == sorted(_commitments(world.fleet))
    salts = {told.salt for told, _ in world.fleet.places}

    world.air.deliver(FrameClass.RECEIPT, world.fleet.receipt())
    await world.settle()
    await world.restart()

    assert await world.kept() == [max(world.fleet.entries)]
    assert all(e.place is None for e in await world.store.entries(1, 100))
    held = await world.store.entries(1, 100)
    assert not any(salt in entry.frame for entry in held for salt in salts)
    await world.stop()


async def test_places_survive_a_power_cut_with_their_entries() -> None:
    # FF-PLC-03, L12
    world = World(is_online=False)
    await world.start()
    world.air.restore()
    await world.advance(61.0)
    world.fleet.gives_receipts = False
    await world.begin_rental()
    world.air.cut()
    await world.end_rental()
    await world.power_cut()
    world.air.restore()
    await world.advance(120.0)

    commitments = _commitments(world.fleet)
    assert len(commitments) == 2
    places: dict[int, EventPlace] = {told.seq: told for told, _ in world.fleet.places}
    assert {s: commitment_of(VEHICLE, t) for s, t in places.items()} == commitments
    await world.stop()


async def test_a_car_without_a_fix_tells_no_place() -> None:
    # FF-PLC-02
    async with World() as world:
        world.positioning.position = None
        await _rented(world)

        assert set(_commitments(world.fleet).values()) == {NO_PLACE}
        assert world.fleet.places == []
