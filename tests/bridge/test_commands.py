"""Commands from order to signed end: I-5, I-8, I-11, L10."""

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.bound_orders import Pins, ReserveOrder
from bridge.commands import CommandState, is_proved_undone
from bridge.errors import OrderRefusedError, Refusal
from certs.fleet import FleetDirectory
from protocol.codes import (
    Code,
    Executed,
    FrameClass,
    Lane,
    LockDefault,
    LockMode,
    Retry,
)
from protocol.command import ANY_VERSION, RESERVE, Lock, Unlock, parse_command
from protocol.entry import GENESIS
from protocol.hello import Capability
from protocol.identity import card_digest
from protocol.sealing import fuel_card_pin_of, pin_matches, unseal
from protocol.signing import verify_frame
from tests.bridge.car import RENTAL, frame_of
from tests.bridge.world import BOOT_MS, World

UNLOCK = Unlock(RENTAL, ANY_VERSION)
LOCK = Lock(RENTAL, ANY_VERSION, LockMode.PARK)

PIN, FUEL_PIN = "4711", "0815"

RESERVATION = ReserveOrder(
    rental_id=RENTAL,
    expected_version=ANY_VERSION,
    hold_s=900,
    cards=(bytes.fromhex("04a1b2c3"),),
    lock_default=LockDefault.PARK,
    language=b"de",
    pins=Pins(PIN, FUEL_PIN),
)


async def test_a_command_is_done_only_with_the_cars_signed_word(world: World) -> None:
    # FF-CMD-19.
    # I-11
    await world.greet()

    waiting = asyncio.create_task(world.order(UNLOCK, wait_s=30))
    frame = await world.broker.next_sent(FrameClass.CMD)
    assert not waiting.done()
    await world.say(FrameClass.RESULT, world.car.result(frame))
    record = await waiting

    assert record.state is CommandState.SUCCEEDED
    assert (record.code, record.executed) == (Code.OK, Executed.YES)
    assert [state for state, _ in record.trail] == [
        "requested",
        "signed",
        "published",
        "succeeded",
    ]
    assert record.frame == frame


async def test_a_command_is_signed_for_this_car_session_and_clock(
    world: World,
) -> None:
    # FF-ADR-05, FF-FRE-28.
    await world.greet()
    world.advance(1)

    await world.order(UNLOCK)

    frame = frame_of(await world.broker.next_sent(FrameClass.CMD))
    header = frame.header
    verify_frame(
        frame,
        fleet_id=world.fleet.fleet.fleet_id,
        key=world.command_key.verify_key,
    )
    assert header.vehicle_id == world.car.id
    assert header.session_id == world.car.session
    assert (header.lane, header.seq) == (Lane.ACCESS, 1)
    # Less than the cap of 10 s on the car's clock, which shows BOOT_MS + 1,000.
    assert BOOT_MS + 1_000 + 9_000 < header.mono_ms < BOOT_MS + 1_000 + 10_000
    assert world.broker.expiries[-1] == 9
    assert parse_command(header.type, header.schema, frame.payload) == UNLOCK


async def test_the_command_and_its_sequence_are_durable_before_it_is_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # FF-CMD-18, FF-FRE-27.
    await world.greet()
    link = world.broker.link
    assert link is not None
    found: list[tuple[object, ...]] = []

    async def look(_topic: str, data: bytes, *, expiry_s: int | None = None) -> None:
        assert expiry_s
        header = frame_of(data).header
        reader = sqlite3.connect(world.path)
        try:
            found.extend(
                reader.execute(
                    "select commands.state, sequences.reserved >= ? from commands, "
                    "sequences where command_id = ? and lane = ?",
                    (header.seq, header.msg_id, header.lane),
                )
            )
        finally:
            reader.close()

    monkeypatch.setattr(link, "publish", look)
    await world.order(UNLOCK)

    assert found == [("signed", 1)]


async def test_sequences_rise_by_lane_and_never_repeat_after_a_restart(
    world: World, fleet: FleetDirectory, tmp_path: Path
) -> None:
    # FF-FRE-27.
    await world.greet()
    for _ in range(3):
        await world.order(UNLOCK)
    sent = [frame_of(d).header.seq for d in world.broker.sent_of(FrameClass.CMD)]
    assert sent == [1, 2, 3]
    copy = tmp_path / "after-the-crash.sqlite"
    source, target = sqlite3.connect(world.path), sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()

    async with World(fleet, copy) as again:
        again.car = next(car for car in again.cars if car.id == world.car.id)
        await again.order(UNLOCK)
        header = frame_of(await again.broker.next_sent(FrameClass.CMD)).header

    assert header.session_id == world.car.session
    assert header.seq > 3


async def test_silence_means_unknown_and_the_late_result_still_counts(
    world: World,
) -> None:
    # FF-CMD-21.
    # I-11, L10, row 14
    await world.greet()
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)
    world.advance(13)

    await world.dispatcher.sweep()

    unknown = await world.dispatcher.find(command.command_id, wait_s=0)
    assert unknown is not None
    assert unknown.state is CommandState.TIMED_OUT
    assert not unknown.state.is_terminal

    await world.say(FrameClass.RESULT, world.car.result(frame))

    settled = await world.store.command(command.command_id)
    assert settled is not None
    assert settled.state is CommandState.SUCCEEDED
    assert settled.settled_by == "result"


async def test_the_next_hello_settles_an_unknown_command_by_its_list(
    world: World,
) -> None:
    # FF-CMD-27.
    await world.greet()
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)
    world.car.result(frame, Code.DOOR_OPEN)  # lost on the way
    world.advance(13)
    await world.dispatcher.sweep()

    await world.say(FrameClass.HELLO, world.car.hello())

    settled = await world.store.command(command.command_id)
    assert settled is not None
    assert (settled.state, settled.code) == (CommandState.REJECTED, Code.DOOR_OPEN)
    assert settled.settled_by == "hello"


async def test_a_car_that_was_busy_first_and_did_it_then_is_not_called_undone(
    world: World,
) -> None:
    # I-11, FF-CMD-27: found by the simulation (seed 40603, LIFE=0.4).
    await world.greet()
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)
    busy = world.car.result(frame, Code.BUSY, executed=Executed.NO, in_ledger=False)
    await world.say(FrameClass.RESULT, busy)
    world.car.result(frame, Code.OK)  # of the same bytes sent again, lost on the way

    await world.say(FrameClass.HELLO, world.car.hello())

    settled = await world.store.command(command.command_id)
    assert settled is not None
    assert (settled.state, settled.executed) == (CommandState.SUCCEEDED, None)
    assert not is_proved_undone(settled)


async def test_a_hello_that_does_not_list_it_proves_that_it_never_ran(
    world: World,
) -> None:
    # FF-CMD-29.
    # protocol-design.md 1.4: not in journal, and its session is over.
    await world.greet()
    command = await world.order(UNLOCK)
    world.advance(13)
    await world.dispatcher.sweep()
    world.car.reboot()

    await world.say(FrameClass.HELLO, world.car.hello())

    settled = await world.store.command(command.command_id)
    assert settled is not None
    assert (settled.state, settled.executed) == (CommandState.EXPIRED, Executed.NO)


async def test_an_empty_list_after_flash_loss_proves_nothing(world: World) -> None:
    # FF-CMD-29.
    await world.greet()
    command = await world.order(UNLOCK)
    world.advance(13)
    await world.dispatcher.sweep()
    world.car.reboot()
    world.car.ledger_id, world.car.seq, world.car.head = bytes(8), 0, GENESIS

    await world.say(FrameClass.HELLO, world.car.hello())

    unknown = await world.store.command(command.command_id)
    assert unknown is not None
    assert unknown.state is CommandState.TIMED_OUT


async def test_a_hello_in_the_same_session_before_expiry_proves_nothing(
    world: World,
) -> None:
    # FF-CMD-28.
    await world.greet()
    command = await world.order(UNLOCK)

    await world.say(FrameClass.HELLO, world.car.hello())

    still = await world.store.command(command.command_id)
    assert still is not None
    assert not still.state.is_terminal


async def test_a_signed_end_is_never_changed(world: World) -> None:
    # FF-CMD-20.
    await world.greet()
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)
    await world.say(FrameClass.RESULT, world.car.result(frame))

    late = world.car.result(frame, Code.EXPIRED, executed=Executed.NO, in_ledger=False)
    await world.say(FrameClass.RESULT, late)

    settled = await world.store.command(command.command_id)
    assert settled is not None
    assert (settled.state, settled.code) == (CommandState.SUCCEEDED, Code.OK)
    assert await world.store.dead_letters() == []


async def test_a_result_for_other_bytes_settles_nothing(world: World) -> None:
    # FF-CMD-25.
    await world.greet()
    command = await world.order(UNLOCK)
    frame = bytearray(await world.broker.next_sent(FrameClass.CMD))
    frame[-70] ^= 1

    await world.say(FrameClass.RESULT, world.car.result(bytes(frame)))

    still = await world.store.command(command.command_id)
    assert still is not None
    assert not still.state.is_terminal
    assert "answers other bytes than ours" in {seen.note for seen in world.seen}


async def test_another_cars_result_settles_nothing(world: World) -> None:
    await world.greet()
    other = world.cars[1]
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)

    await world.say(FrameClass.RESULT, other.result(frame), car=other)

    still = await world.store.command(command.command_id)
    assert still is not None
    assert not still.state.is_terminal


async def test_a_refusal_that_says_maybe_and_is_in_no_ledger_settles_nothing(
    world: World,
) -> None:
    # FF-CMD-26.
    await world.greet()
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)
    maybe = world.car.result(
        frame, Code.SESSION_STALE, executed=Executed.MAYBE, in_ledger=False
    )

    await world.say(FrameClass.RESULT, maybe)

    still = await world.store.command(command.command_id)
    assert still is not None
    assert (still.state.is_terminal, still.code) == (False, Code.SESSION_STALE)


@pytest.mark.parametrize(
    ("code", "end"),
    [
        (Code.OK, CommandState.SUCCEEDED),
        (Code.ALREADY_IN_STATE, CommandState.SUCCEEDED),
        (Code.EXPIRED, CommandState.EXPIRED),
        (Code.ROLE_FORBIDDEN, CommandState.REJECTED),
        (Code.VEHICLE_MOVING, CommandState.REJECTED),
        (Code.STORAGE_FULL, CommandState.REJECTED),
        (Code.ACTUATOR_TIMEOUT, CommandState.FAILED),
        (Code.INDETERMINATE_AFTER_REBOOT, CommandState.INDETERMINATE),
    ],
)
async def test_each_kind_of_code_has_its_end(
    world: World, code: Code, end: CommandState
) -> None:
    # FF-CMD-17.
    await world.greet()
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)

    await world.say(FrameClass.RESULT, world.car.result(frame, code))

    settled = await world.store.command(command.command_id)
    assert settled is not None
    assert settled.state is end


async def test_silence_sends_the_identical_bytes_again_and_busy_does_too(
    world: World,
) -> None:
    # FF-CMD-22.
    # W2: never a second token for one intent.
    await world.greet()
    await world.order(LOCK)
    first = await world.broker.next_sent(FrameClass.CMD)
    busy = world.car.result(
        first,
        Code.BUSY,
        executed=Executed.NO,
        retry=Retry.SAME_BYTES,
        in_ledger=False,
    )
    await world.say(FrameClass.RESULT, busy)
    world.advance(3)

    await world.dispatcher.sweep()
    await world.dispatcher.sweep()

    assert await world.broker.next_sent(FrameClass.CMD) == first
    assert len(world.broker.sent_of(FrameClass.CMD)) == 2


async def test_nothing_is_sent_again_after_it_expired(world: World) -> None:
    # FF-CMD-22.
    await world.greet()
    await world.order(UNLOCK)
    world.advance(9.8)

    await world.dispatcher.sweep()

    assert len(world.broker.sent_of(FrameClass.CMD)) == 1


async def test_an_order_to_an_offline_car_is_refused_and_nothing_is_sent(
    world: World,
) -> None:
    await world.greet()
    await world.say(FrameClass.DEATH, world.car.death())

    with pytest.raises(OrderRefusedError, match="offline") as caught:
        await world.order(UNLOCK)

    assert caught.value.refusal is Refusal.OFFLINE
    assert world.broker.sent_of(FrameClass.CMD) == []


async def test_what_the_car_did_not_say_it_understands_is_refused(
    world: World,
) -> None:
    # FF-CMD-30.
    capabilities = (Capability(0x0101, 1),)
    await world.say(FrameClass.HELLO, world.car.hello(capabilities=capabilities))

    with pytest.raises(OrderRefusedError, match="understands lock") as caught:
        await world.order(LOCK)

    assert caught.value.refusal is Refusal.UNSUPPORTED


async def test_a_repeated_order_with_the_same_key_sends_nothing_again(
    world: World,
) -> None:
    await world.greet()
    submit = world.dispatcher.submit

    first, _ = await submit(world.car.id, UNLOCK, idempotency_key="k", wait_s=0)
    second, repeated = await submit(world.car.id, UNLOCK, idempotency_key="k", wait_s=0)

    assert repeated
    assert second.command_id == first.command_id
    assert len(world.broker.sent_of(FrameClass.CMD)) == 1


async def test_two_calls_with_one_key_at_the_same_time_send_one_command(
    world: World,
) -> None:
    await world.greet()

    answers = await asyncio.gather(
        *(
            world.dispatcher.submit(world.car.id, UNLOCK, idempotency_key="k", wait_s=0)
            for _ in range(5)
        )
    )

    assert len({record.command_id for record, _ in answers}) == 1
    assert len(world.broker.sent_of(FrameClass.CMD)) == 1


async def test_a_key_for_another_order_is_refused(world: World) -> None:
    await world.greet()
    submit = world.dispatcher.submit
    await submit(world.car.id, UNLOCK, idempotency_key="k", wait_s=0)

    with pytest.raises(OrderRefusedError) as caught:
        await submit(world.car.id, LOCK, idempotency_key="k", wait_s=0)

    assert caught.value.refusal is Refusal.KEY_REUSED


async def test_a_reservation_ends_by_the_cars_clock_and_never_too_late(
    world: World,
) -> None:
    # FF-SEC-01.
    # H1
    await world.greet()
    world.advance(2)

    await world.order(RESERVATION)

    frame = frame_of(await world.broker.next_sent(FrameClass.CMD))
    reserve = RESERVE.parse(frame.payload)
    latest = BOOT_MS + 2_000 + 900_000
    assert latest - 100 <= reserve.reserved_until_ms <= latest
    assert reserve.cards == (card_digest(RENTAL, bytes.fromhex("04a1b2c3")),)
    secrets = unseal(
        reserve.sealed,
        world.car.sealing_key,
        fleet_id=world.fleet.fleet.fleet_id,
        vehicle_id=world.car.id,
        rental_id=RENTAL,
    )
    assert pin_matches(secrets, PIN)
    assert fuel_card_pin_of(secrets) == FUEL_PIN


async def test_a_day_of_reservation_ends_in_time_on_a_slow_clock_too(
    world: World,
) -> None:
    # H1: a clock that is 50 ppm slow shows a day 4.3 s late.
    await world.greet()

    await world.order(replace(RESERVATION, hold_s=86_400))

    frame = frame_of(await world.broker.next_sent(FrameClass.CMD))
    until_ms = RESERVE.parse(frame.payload).reserved_until_ms
    shown_after_a_day_ms = BOOT_MS + 86_400_000 * (1_000_000 - 50) // 1_000_000
    assert shown_after_a_day_ms - 5_000 <= until_ms <= shown_after_a_day_ms


async def test_pins_are_in_no_file_no_log_and_no_text(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    # FF-SEC-03.
    # H6, K2
    caplog.set_level("DEBUG")
    await world.greet()
    order = replace(RESERVATION, pins=Pins("73919264", "58203517"))

    record = await world.order(order)
    await world.intake.flush()

    kept = b"".join(
        path.read_bytes() for path in world.path.parent.glob(f"{world.path.name}*")
    )
    for pin in ("73919264", "58203517"):
        assert pin.encode() not in kept
        assert pin not in caplog.text
        assert pin not in repr(order)
        assert pin not in repr(record)


async def test_a_command_that_was_open_at_a_crash_becomes_unknown(
    world: World,
) -> None:
    await world.greet()
    command = await world.order(UNLOCK)
    stored = await world.store.command(command.command_id)
    assert stored is not None
    # Its sending is not written yet: in the store it is "signed", perhaps sent.
    assert stored.state is CommandState.SIGNED
    world.advance(13)

    world.sendings.forget(command.command_id)
    await world.dispatcher.sweep()

    unknown = await world.store.command(command.command_id)
    assert unknown is not None
    assert unknown.state is CommandState.TIMED_OUT


async def test_a_full_list_proves_by_an_older_command_that_it_holds(
    world: World,
) -> None:
    # The list is the end of the car's journal: 32 entries, and this one is not there.
    await world.greet()
    for _ in range(32):
        command = await world.order(UNLOCK)
        frame = await world.broker.next_sent(FrameClass.CMD)
        await world.say(FrameClass.RESULT, world.car.result(frame))
        world.advance(1)
    early = await world.order(UNLOCK)
    world.advance(30)
    late = await world.order(LOCK)
    world.car.reboot()

    await world.say(FrameClass.HELLO, world.car.hello())

    for command in (early, late):
        settled = await world.store.command(command.command_id)
        assert settled is not None
        assert settled.state is CommandState.EXPIRED, command.kind


async def test_a_full_list_of_newer_commands_proves_nothing(world: World) -> None:
    await world.greet()
    lost = await world.order(UNLOCK)
    await world.broker.next_sent(FrameClass.CMD)
    for _ in range(32):
        world.advance(1)
        await world.order(LOCK)
        frame = await world.broker.next_sent(FrameClass.CMD)
        await world.say(FrameClass.RESULT, world.car.result(frame))
    world.car.reboot()

    await world.say(FrameClass.HELLO, world.car.hello())

    still = await world.store.command(lost.command_id)
    assert still is not None
    assert not still.state.is_terminal
