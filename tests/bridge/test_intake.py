"""What the bridge does with frames: I-21, I-22, I-23, I-24, I-27."""

import asyncio
import base64
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from bridge import projection, store
from bridge.cloud_event import REPLACED_TYPE
from bridge.errors import StoreError
from bridge.vehicle import LOST_LEDGERS
from bridge.workspace import LetterKind, Workspace
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.codes import AccessMeans, Code, FrameClass
from protocol.entry import GENESIS
from protocol.event import EVENTS, AgentStarted, Parked, RentalStarted
from protocol.receipt import Gap, Reject
from tests.bridge.car import RENTAL, REPORT, Car, frame_of, receipt_of, sample
from tests.bridge.conftest import MADE, make_fleet
from tests.bridge.world import World

STARTED = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)
PARKED = Parked(RENTAL, AccessMeans.CARD, 1_005_000)


async def test_an_entry_is_stored_told_and_receipted(world: World) -> None:
    # FF-RCP-03.
    await world.greet()

    await world.say(FrameClass.EVENT, world.car.event(STARTED))

    receipt = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    assert receipt.upto == 1
    assert receipt.head_hash == world.car.head
    assert receipt.gaps == ()
    assert await world.events() == ["freefloat.rental.started"]


async def test_a_resent_entry_is_told_once_and_receipted_again(world: World) -> None:
    # FF-LED-16, FF-LED-24.
    # I-21: the car resends because the receipt was lost.
    entry = world.car.event(STARTED)
    await world.say(FrameClass.EVENT, entry)
    await world.broker.next_sent(FrameClass.RECEIPT)

    await world.say(FrameClass.EVENT, entry)

    assert receipt_of(await world.broker.next_sent(FrameClass.RECEIPT)).upto == 1
    assert await world.events() == ["freefloat.rental.started"]


async def test_entries_behind_a_gap_are_kept_asked_for_and_told_in_order(
    world: World,
) -> None:
    # FF-LED-18, FF-LED-20, FF-RCP-03.
    # I-25, I-27: the second entry arrives last.
    first, second, third = (
        world.car.event(AgentStarted(1, bytes(4))),
        world.car.event(STARTED),
        world.car.event(PARKED),
    )
    await world.say(FrameClass.EVENT, first)
    await world.broker.next_sent(FrameClass.RECEIPT)

    await world.say(FrameClass.EVENT, third)

    waiting = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    assert (waiting.upto, waiting.gaps) == (1, (Gap(2, 2),))
    assert await world.events() == ["freefloat.agent.started"]

    await world.say(FrameClass.EVENT, second)

    closed = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    assert (closed.upto, closed.gaps) == (3, ())
    assert closed.head_hash == world.car.head
    assert await world.events() == [
        "freefloat.agent.started",
        "freefloat.rental.started",
        "freefloat.rental.parked",
    ]


async def test_a_gap_that_stays_is_told_once(world: World) -> None:
    # FF-LED-18.
    world.car.event(AgentStarted(1, bytes(4)))
    await world.say(FrameClass.EVENT, world.car.event(STARTED))

    world.advance(59)
    assert not await world.store.tell_gaps(now=world.now())
    world.advance(2)

    assert await world.store.tell_gaps(now=world.now())
    assert not await world.store.tell_gaps(now=world.now())
    assert await world.events() == ["freefloat.ledger.gap"]


async def test_another_entry_with_a_known_sequence_is_a_fork_and_both_are_kept(
    world: World,
) -> None:
    # FF-LED-17.
    # I-27
    genuine = world.car.event(STARTED)
    await world.say(FrameClass.EVENT, genuine)
    world.car.seq, world.car.head = 0, bytes(32)
    other = world.car.event(PARKED)

    await world.say(FrameClass.EVENT, other)

    assert await world.events() == [
        "freefloat.rental.started",
        "freefloat.ledger.forked",
    ]
    [letter] = await world.store.dead_letters()
    assert (letter.data, letter.kind) == (other, LetterKind.FORK)
    rows = await world.store.outbox_after(0, 10)
    assert rows[0].event_id != rows[1].event_id


async def test_an_entry_that_does_not_name_the_one_before_stops_the_ledger(
    world: World,
) -> None:
    # FF-LED-19.
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    await world.broker.next_sent(FrameClass.RECEIPT)
    world.car.head = bytes(31) + b"\1"

    await world.say(FrameClass.EVENT, world.car.event(PARKED))

    assert receipt_of(await world.broker.next_sent(FrameClass.RECEIPT)).upto == 1
    assert await world.events() == [
        "freefloat.rental.started",
        "freefloat.ledger.broken",
    ]


async def test_nothing_is_acknowledged_or_receipted_when_the_store_does_not_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # FF-RCP-01, FF-RCP-02, FF-ADR-14.
    # I-23
    await world.greet()
    real = world.store.commit_batch

    async def full_disk(*_args: object, **_kwargs: object) -> object:
        raise StoreError("the store did not commit: disk I/O error")

    monkeypatch.setattr(world.store, "commit_batch", full_disk)
    world.broker.subscribed.clear()
    message = world.deliver(FrameClass.EVENT, world.car.event(STARTED))
    await world.broker.subscribed.wait()

    # It reconnected, so that a broker with a session would deliver again.
    assert not message.is_done.is_set()
    assert len(world.broker.sent_of(FrameClass.RECEIPT)) == 1
    assert await world.events() == []

    monkeypatch.setattr(world.store, "commit_batch", real)
    world.broker.cut()
    await message.is_done.wait()

    assert receipt_of(await world.broker.next_sent(FrameClass.RECEIPT)).upto == 1
    assert await world.events() == ["freefloat.rental.started"]


async def test_who_is_told_to_stop_stops_also_when_the_batch_under_way_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I-34: found by the simulation (make simulate). The failure had taken the place of
    # the cancellation, and the bridge connected anew for ever.
    await world.greet()
    begun, failing = asyncio.Event(), asyncio.Event()

    async def full_disk(*_args: object, **_kwargs: object) -> object:
        begun.set()
        await failing.wait()
        raise StoreError("the store did not commit: disk I/O error")

    monkeypatch.setattr(world.store, "commit_batch", full_disk)
    message = world.deliver(FrameClass.EVENT, world.car.event(STARTED))
    await begun.wait()
    intake = world._tasks[0]

    intake.cancel()
    await asyncio.sleep(0)
    failing.set()
    await asyncio.wait({intake}, timeout=20)

    assert intake.cancelled()
    assert not message.is_done.is_set()


async def test_what_was_receipted_is_there_after_a_restart(
    world: World, fleet: FleetDirectory, tmp_path: Path
) -> None:
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    copy = tmp_path / "after-the-crash.sqlite"
    with sqlite3.connect(world.path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()

    async with World(fleet, copy) as again:
        assert await again.events() == ["freefloat.rental.started"]


async def test_telemetry_updates_the_state_and_gets_no_receipt(world: World) -> None:
    # FF-TEL-06.
    await world.greet()

    await world.say(FrameClass.TELEM, world.car.telemetry(sample(energy_pct=33)))

    vehicle = await world.vehicle()
    assert vehicle.twin["energy_pct"].value == 33
    assert vehicle.twin["latitude_deg"].value == pytest.approx(48.1)
    assert len(world.broker.sent_of(FrameClass.RECEIPT)) == 1
    assert await world.events() == []


async def test_what_was_not_measured_keeps_its_value_and_shows_its_age(
    world: World,
) -> None:
    # FF-FRM-04.
    await world.greet()
    await world.say(FrameClass.TELEM, world.car.telemetry(sample(energy_pct=33)))
    before = (await world.vehicle()).twin["energy_pct"]
    world.advance(60)

    await world.say(FrameClass.TELEM, world.car.telemetry(sample(energy_pct=None)))

    assert (await world.vehicle()).twin["energy_pct"] == before


async def test_an_old_event_that_arrives_late_does_not_overwrite_newer_state(
    world: World,
) -> None:
    # FF-TEL-05.
    # The rental ran offline; HELLO shows the present before the past arrives.
    world.advance(-600)
    started = world.car.event(STARTED)
    world.advance(600)
    await world.greet()

    await world.say(FrameClass.EVENT, started)

    assert (await world.vehicle()).twin["mode"].value == "available"
    assert await world.events() == ["freefloat.rental.started"]


async def test_an_event_of_a_newer_car_is_kept_and_receipted(world: World) -> None:
    # FF-EVO-02.
    newer = world.car.entry(FrameClass.EVENT, 0x81FF, b"something new")

    await world.say(FrameClass.EVENT, newer)

    assert receipt_of(await world.broker.next_sent(FrameClass.RECEIPT)).upto == 1
    assert await world.events() == ["freefloat.event.unknown"]


async def test_a_signed_entry_with_a_wrong_body_is_refused_for_good_and_kept(
    world: World,
) -> None:
    # FF-RCP-11, FF-RCP-12.
    kind = next(iter(EVENTS))

    await world.say(
        FrameClass.EVENT, world.car.entry(FrameClass.EVENT, int(kind), b"wrong")
    )

    receipt = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    assert (receipt.upto, receipt.rejects) == (1, (Reject(1, Code.BAD_PARAM),))
    assert await world.events() == ["freefloat.entry.refused"]


async def test_a_refusal_for_good_is_said_again_when_its_receipt_was_lost(
    world: World,
) -> None:
    # FF-RCP-11.
    # FF-RCP-09, FF-RCP-10: else the car would let go what it must set aside.
    kind = next(iter(EVENTS))
    wrong = world.car.entry(FrameClass.EVENT, int(kind), b"wrong")
    await world.say(FrameClass.EVENT, wrong)
    await world.broker.next_sent(FrameClass.RECEIPT)

    await world.say(FrameClass.EVENT, wrong)

    receipt = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    assert (receipt.upto, receipt.rejects) == (1, (Reject(1, Code.BAD_PARAM),))
    assert await world.events() == ["freefloat.entry.refused"]


async def test_numbers_that_no_database_holds_stop_nobody(world: World) -> None:
    # FF-LED-21.
    # I-31, row 27 (poison frame): a car signs 2**64 - 1 wherever the wire lets it.
    huge = 2**64 - 1
    bad = [
        world.car.sign(FrameClass.EVENT, 0x8114, bytes(52), seq=huge),
        world.car.sign(FrameClass.EVENT, 0x8114, bytes(52), seq=1, mono_ms=huge),
        world.car.telemetry(sample(), mono_ms=huge),
    ]

    await world.say(FrameClass.EVENT, *bad[:2])
    await world.say(FrameClass.TELEM, bad[2])
    await world.say(FrameClass.EVENT, world.car.event(STARTED, wall_ms=huge))

    assert await world.events() == ["freefloat.rental.started"]
    assert len(await world.store.dead_letters()) == 3


async def test_a_frame_that_this_program_cannot_digest_is_kept_and_stops_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I-31, row 27 (poison frame): a defect, provoked by one car's rental id.
    poison = replace(STARTED, rental_id=bytes(15) + b"\7")
    real = projection.absorb

    def defect(space: Workspace, record: object) -> None:
        body = getattr(record, "body", None)
        if body == poison:
            raise ZeroDivisionError
        real(space, record)  # type: ignore[arg-type] # as it came

    monkeypatch.setattr(store, "absorb", defect)
    other = world.cars[1]
    messages = [
        world.deliver(FrameClass.EVENT, world.car.event(poison)),
        world.deliver(FrameClass.EVENT, other.event(STARTED), other),
    ]
    for message in messages:
        await message.is_done.wait()

    assert await world.events() == ["freefloat.rental.started"]
    letters = await world.store.dead_letters()
    assert [letter.reason for letter in letters] == [
        "INTERNAL: a defect of this bridge; see its log"
    ]


async def test_a_hello_is_answered_with_how_far_the_ledger_is_stored(
    world: World,
) -> None:
    # FF-HEL-12.
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    await world.broker.next_sent(FrameClass.RECEIPT)

    await world.say(FrameClass.HELLO, world.car.hello())

    assert receipt_of(await world.broker.next_sent(FrameClass.RECEIPT)).upto == 1


async def test_a_replayed_older_hello_changes_nothing(world: World) -> None:
    # FF-HEL-09.
    first = world.car.hello()
    await world.say(FrameClass.HELLO, first)
    world.car.reboot()
    await world.say(FrameClass.HELLO, world.car.hello())
    session = (await world.vehicle()).session_id

    await world.say(FrameClass.HELLO, first)

    assert (await world.vehicle()).session_id == session == world.car.session
    assert "hello went back" in {seen.note for seen in world.seen}


def lose_flash(car: Car) -> None:
    """Let a car begin anew with an empty disk: its ledger, its count of starts."""
    car.boot_counter = 0
    car.reboot()
    car.ledger_id, car.seq, car.head = b"new disk", 0, GENESIS


async def test_a_car_that_lost_its_flash_is_told_of_and_can_be_commanded_again(
    world: World,
) -> None:
    # FF-LED-22, FF-HEL-09.
    # I-27, row 5: it counts its starts from 1 again, under a ledger never seen before.
    for _ in range(5):
        world.car.reboot()
    await world.greet()
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    lose_flash(world.car)
    world.car.snapshot = replace(world.car.snapshot, energy_pct=11)

    await world.say(FrameClass.HELLO, world.car.hello())

    vehicle = await world.vehicle()
    assert vehicle.session_id == world.car.session
    assert vehicle.ledger_id == b"new disk"
    assert vehicle.twin["energy_pct"].value == 11
    assert await world.events() == [
        "freefloat.rental.started",
        "freefloat.ledger.replaced",
        "freefloat.rental.to_close",
    ]
    rows = await world.store.outbox_after(0, 10)
    [alarm] = [json.loads(r.body) for r in rows if r.type == REPLACED_TYPE]
    assert alarm["data"]["ledger_id"] == b"new disk".hex()
    assert RENTAL.hex() in alarm["data"]["detail"]


async def test_a_hello_of_a_lost_ledger_never_counts_again(world: World) -> None:
    # FF-LED-23.
    # Whoever kept one must not bring the old session back by it.
    await world.greet()
    for _ in range(5):
        world.car.reboot()
    held_back = world.car.hello()
    lose_flash(world.car)
    await world.say(FrameClass.HELLO, world.car.hello())

    await world.say(FrameClass.HELLO, held_back)

    assert (await world.vehicle()).session_id == world.car.session
    assert "hello went back" in {seen.note for seen in world.seen}


async def test_ledgers_that_a_car_lost_are_remembered_within_bounds(
    world: World,
) -> None:
    await world.greet()
    for number in range(LOST_LEDGERS + 3):
        world.car.reboot()
        world.car.ledger_id = number.to_bytes(8, "big")
        await world.say(FrameClass.HELLO, world.car.hello())

    assert len((await world.vehicle()).lost_ledgers) == LOST_LEDGERS


async def test_a_ledger_that_went_back_is_told(world: World) -> None:
    # FF-HEL-11.
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    world.car.seq, world.car.head = 0, bytes(32)

    await world.say(FrameClass.HELLO, world.car.hello())
    doubt = (await world.vehicle()).doubt
    assert doubt is not None
    await world.say(FrameClass.HELLO, world.car.hello(nonce=doubt.nonce))

    assert "freefloat.ledger.forked" in await world.events()


async def test_a_hello_that_its_own_entries_overtook_is_no_fork(world: World) -> None:
    # FF-HEL-11: found by the simulation (make simulate), at a broker that reorders.
    hello = world.car.hello()
    await world.say(FrameClass.EVENT, world.car.event(AgentStarted(1, bytes(4))))
    await world.say(FrameClass.EVENT, world.car.event(STARTED))

    await world.say(FrameClass.HELLO, hello)

    doubt = (await world.vehicle()).doubt
    assert doubt is not None
    await world.say(FrameClass.HELLO, world.car.hello(nonce=doubt.nonce))
    assert (await world.vehicle()).doubt is None
    assert "freefloat.ledger.forked" not in await world.events()
    rental = await world.store.rental(RENTAL)
    assert rental is not None
    assert not rental.needs_close


async def test_a_hello_that_names_another_entry_is_told_at_once(world: World) -> None:
    # FF-HEL-11.
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    world.car.head = bytes(32)

    await world.say(FrameClass.HELLO, world.car.hello())

    assert "freefloat.ledger.forked" in await world.events()


async def test_a_death_counts_only_for_the_newest_connection(world: World) -> None:
    # FF-DTH-04.
    await world.greet()
    stale = world.car.death(seq=0)

    await world.say(FrameClass.DEATH, stale)
    assert (await world.vehicle()).is_online(now=world.now())
    await world.say(FrameClass.DEATH, world.car.death())

    assert not (await world.vehicle()).is_online(now=world.now())


async def test_a_car_that_is_silent_for_long_is_offline(world: World) -> None:
    await world.greet()
    world.advance(181)

    assert not (await world.vehicle()).is_online(now=world.now())


async def test_a_vehicle_issued_while_the_bridge_runs_is_known_at_its_first_frame(
    tmp_path: Path,
) -> None:
    fleet = make_fleet(tmp_path / "growing", 1)
    async with World(fleet, tmp_path / "bridge.sqlite") as world:
        [issued] = issue_vehicles(fleet, [random_vehicle_id()], now=MADE)
        newcomer = Car(issued.directory, boot_ms=world.boot_ms)

        await world.say(FrameClass.HELLO, newcomer.hello(), car=newcomer)

        assert (await world.vehicle(newcomer)).session_id == newcomer.session


async def test_the_rental_report_is_told_with_units_and_evidence(world: World) -> None:
    await world.say(FrameClass.EVENT, world.car.event(REPORT))

    [row] = await world.store.outbox_after(0, 10)
    event = json.loads(row.body)
    assert event["specversion"] == "1.0"
    assert event["type"] == "freefloat.rental.ended"
    assert event["subject"] == str(world.car.id)
    data = event["data"]
    assert (data["driving_min"], data["parking_min"]) == (20, 5)
    assert (data["distance_m"], data["range_km"]) == (12_500, 350)
    assert data["reason"] == "card"
    assert data["bits"]["locked"] is True
    assert data["started"] == "2027-01-15T08:00:00.000Z"
    frame = base64.b64decode(data["evidence"]["frame"])
    assert frame_of(frame).header.seq == 1
    rental = await world.store.rental(RENTAL)
    assert rental is not None
    assert (rental.state, rental.frame) == ("ended", frame)


async def test_a_receipt_is_kept_with_its_rental(world: World) -> None:
    await world.say(FrameClass.EVENT, world.car.event(REPORT))
    sent = await world.broker.next_sent(FrameClass.RECEIPT)

    await world.intake.flush()

    rental = await world.store.rental(RENTAL)
    assert rental is not None
    assert rental.receipt is not None
    assert rental.receipt.data == sent


async def test_every_frame_is_shown_to_the_observer_in_order(world: World) -> None:
    await world.greet()
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    await world.broker.next_sent(FrameClass.RECEIPT)

    shown = [
        (seen.direction, seen.frame.header.frame_class.label)
        for seen in world.seen
        if seen.frame is not None
    ]
    assert shown == [("<", "hello"), (">", "receipt"), ("<", "event"), (">", "receipt")]


async def test_the_bridge_reconnects_and_goes_on(world: World) -> None:
    await world.greet()
    world.broker.cut()
    await world.broker.subscribed.wait()

    await world.say(FrameClass.EVENT, world.car.event(STARTED))

    assert world.broker.connections == 2
    assert await world.events() == ["freefloat.rental.started"]
