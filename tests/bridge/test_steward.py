"""Cars are kept in step: time, trust, missing entries (FF-TRU-24, FF-LED-18)."""

from collections.abc import Iterable

import pytest

from bridge.errors import OrderRefusedError, Refusal, StoreError
from bridge.ports import Addressee
from bridge.steward import GAP_MS, RESEND_MS, TIME_MS, TRUST_MS
from bridge.vehicle import VehicleState
from protocol.codes import ClockQuality, FrameClass, SyncType
from protocol.event import EngineStarted
from protocol.identity import VehicleId
from protocol.receipt import GAPS_LIMIT
from protocol.signing import verify_frame
from protocol.sync import SYNC_TTL_LIMIT_MS, FleetTime, Resend, SyncBody, parse_sync
from protocol.trust import open_bundle
from tests.bridge.bundles import successor
from tests.bridge.car import RENTAL, Car, frame_of, receipt_of
from tests.bridge.world import BOOT_MS, World


def syncs(world: World, sync_type: SyncType | None = None) -> list[SyncBody]:
    """Return the bodies of the SYNC frames that were sent."""
    frames = [frame_of(data) for data in world.broker.sent_of(FrameClass.SYNC)]
    return [
        parse_sync(frame.header.type, frame.header.schema, frame.payload)
        for frame in frames
        if sync_type is None or frame.header.type == sync_type
    ]


async def test_a_car_is_told_the_time_after_its_hello(world: World) -> None:
    await world.greet()

    await world.steward.sweep()
    await world.steward.sweep()

    [data] = world.broker.sent_of(FrameClass.SYNC)
    frame = frame_of(data)
    fleet_id = world.fleet.fleet.fleet_id
    verify_frame(frame, fleet_id=fleet_id, key=world.command_key.verify_key)
    header = frame.header
    assert header.session_id == world.car.session
    assert header.wall_ms == world.now()
    assert BOOT_MS < header.mono_ms < BOOT_MS + SYNC_TTL_LIMIT_MS
    assert syncs(world) == [FleetTime(ClockQuality.NTP)]


async def test_the_time_is_told_again_only_while_no_receipt_tells_it(
    world: World,
) -> None:
    await world.greet()
    await world.steward.sweep()
    world.advance(TIME_MS / 1000 / 2)
    await world.say(FrameClass.EVENT, world.car.event(EngineStarted(RENTAL, 1)))
    await world.broker.next_sent(FrameClass.RECEIPT)
    world.advance(TIME_MS / 1000 / 2)
    await keep_alive(world)
    await world.steward.sweep()
    assert len(syncs(world, SyncType.TIME)) == 1

    world.advance(TIME_MS / 1000 / 2)
    await keep_alive(world)
    await world.steward.sweep()

    assert len(syncs(world, SyncType.TIME)) == 2


async def keep_alive(world: World) -> None:
    await world.say(FrameClass.TELEM, world.car.telemetry())


async def test_numbers_of_syncs_rise_in_a_session(world: World) -> None:
    # Else the car drops them (protocol-design.md 1.2).
    await world.greet()
    for seq in range(1, 40):
        await world.steward.resend(world.car.id, seq, seq, None)

    numbers = [
        frame_of(data).header.seq for data in world.broker.sent_of(FrameClass.SYNC)
    ]
    assert numbers == sorted(set(numbers))


async def test_a_car_with_an_older_bundle_gets_the_newest_after_its_hello(
    world: World,
) -> None:
    # FF-TRU-24
    world.trust = successor(world.fleet, world.trust)
    await world.greet()

    await world.steward.sweep()
    await world.steward.sweep()

    [data] = world.broker.sent_of(FrameClass.TRUST)
    frame = frame_of(data)
    fleet_id = world.fleet.fleet.fleet_id
    verify_frame(frame, fleet_id=fleet_id, key=world.command_key.verify_key)
    roots = world.trust.bundles[1].trust_roots
    assert open_bundle(frame.payload, roots, fleet_id=fleet_id).version == 2

    world.advance(TRUST_MS / 1000)
    await world.steward.sweep()
    assert len(world.broker.sent_of(FrameClass.TRUST)) == 2

    await world.say(FrameClass.HELLO, world.car.hello(bundle_version=2))
    await world.steward.sweep()
    assert len(world.broker.sent_of(FrameClass.TRUST)) == 2


async def test_a_hello_that_comes_while_a_car_is_looked_after_counts_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FF-TRU-24: the look rests on the hello before, whose bundle was the newest."""
    world.trust = successor(world.fleet, world.trust)
    synchronise = world.signer.synchronise

    async def meanwhile(to: Addressee, body: SyncBody) -> bytes:
        monkeypatch.undo()
        await world.say(FrameClass.HELLO, world.car.hello(bundle_version=1))
        return await synchronise(to, body)

    await world.say(FrameClass.HELLO, world.car.hello(bundle_version=2))
    monkeypatch.setattr(world.signer, "synchronise", meanwhile)
    await world.steward.sweep()
    assert world.broker.sent_of(FrameClass.TRUST) == []

    await world.steward.sweep()
    await world.steward.sweep()

    assert len(world.broker.sent_of(FrameClass.TRUST)) == 1
    assert len(syncs(world, SyncType.TIME)) == 2


async def test_a_car_stays_due_when_the_store_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.greet()

    async def fails(_: Iterable[VehicleId]) -> dict[VehicleId, VehicleState]:
        monkeypatch.undo()
        raise StoreError("the disk is busy", advice="wait")

    monkeypatch.setattr(world.store, "vehicles", fails)
    with pytest.raises(StoreError):
        await world.steward.sweep()

    await world.steward.sweep()

    assert len(syncs(world, SyncType.TIME)) == 1


async def test_a_revocation_goes_to_every_connected_car_at_once(world: World) -> None:
    for car in world.cars[:2]:
        await world.greet(car)
    await world.steward.sweep()
    gone = world.trust.newest.keys[1].key_id

    world.trust = successor(world.fleet, world.trust, revoked=(gone,))
    await world.steward.sweep()

    addressees = {
        frame_of(data).header.vehicle_id
        for data in world.broker.sent_of(FrameClass.TRUST)
    }
    assert addressees == {car.id for car in world.cars[:2]}


async def test_entries_beyond_what_a_receipt_names_are_asked_for(world: World) -> None:
    # FF-LED-18: the receipt names 16 gaps; the others are asked for by RESEND.
    await world.greet()
    await every_second_entry_is_lost(world, world.car, 2 * (GAPS_LIMIT + 3))
    receipt = receipt_of(world.broker.sent_of(FrameClass.RECEIPT)[-1])
    assert len(receipt.gaps) == GAPS_LIMIT
    await world.steward.sweep()
    assert syncs(world, SyncType.RESEND) == []
    world.advance(GAP_MS / 1000 + 1)

    await world.steward.sweep()
    await world.steward.sweep()

    asked = syncs(world, SyncType.RESEND)
    beyond = [2 * number + 1 for number in range(GAPS_LIMIT, GAPS_LIMIT + 3)]
    ledger = world.car.ledger_id
    assert asked[:3] == [Resend(ledger, seq, seq) for seq in beyond]
    assert len(asked) == GAPS_LIMIT

    # It is asked again, ever more rarely, and told as an alarm meanwhile.
    world.advance(RESEND_MS / 1000)
    await world.steward.sweep()
    assert len(syncs(world, SyncType.RESEND)) == GAPS_LIMIT
    world.advance(RESEND_MS / 1000)
    await world.steward.sweep()
    assert len(syncs(world, SyncType.RESEND)) == 2 * GAPS_LIMIT


async def every_second_entry_is_lost(world: World, car: Car, entries: int) -> None:
    for number in range(entries):
        data = car.event(EngineStarted(RENTAL, number))
        if number % 2:
            await world.say(FrameClass.EVENT, data)
            await world.broker.next_sent(FrameClass.RECEIPT)


async def test_an_operator_asks_for_entries_of_a_connected_car(world: World) -> None:
    with pytest.raises(OrderRefusedError) as caught:
        await world.steward.resend(world.car.id, 1, 2, None)
    assert caught.value.refusal is Refusal.OFFLINE
    await world.greet()

    assert await world.steward.resend(world.car.id, 3, 7, None) == world.car.ledger_id

    assert syncs(world, SyncType.RESEND) == [Resend(world.car.ledger_id, 3, 7)]
