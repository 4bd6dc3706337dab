"""Commands over the link: once, fresh, in this session, and always answered."""

from dataclasses import replace

import pytest

from gateway.runtime.intake import REFUSALS_KEPT
from protocol.codes import (
    Bits,
    Code,
    Executed,
    FrameClass,
    Lane,
    LockMode,
    Opcode,
    RentalMode,
)
from protocol.command import ANY_VERSION, FlashHazards, Lock, Ping, Unlock
from protocol.frame import Header, parse_frame
from protocol.signing import sign_frame
from protocol.snapshot import NO_RENTAL
from tests.gateway.fleet_end import COMMAND_KEY, FLEET_ID, STRANGER_KEY
from tests.gateway.world import ALICE, World, reservation

PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))


async def test_the_same_command_twice_runs_once_and_gets_the_same_bytes() -> None:
    # FF-FRE-06, FF-CMD-08.
    # I-5, L10, protocol-design.md 1.2 step 6.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        data = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(1.0)

        world.air.deliver(FrameClass.CMD, data)
        await world.advance(1.0)

        assert world.board.orders == ["unlock"]
        first, second = [
            frame
            for result, frame in world.fleet.answers
            if result.request_id == parse_frame(data).header.msg_id
        ]
        assert second == first


async def test_a_repeated_command_is_answered_after_its_entry_was_receipted() -> None:
    # FF-FRE-06.
    # The entry is gone with its receipt, the journal still has the bytes.
    async with World() as world:
        data = world.fleet.send(PING)
        await world.advance(1.0)
        assert await world.kept() == []

        await world.restart()
        world.air.deliver(FrameClass.CMD, data)
        await world.advance(1.0)

        assert world.fleet.codes_of(data) == [Code.OK, Code.OK]
        assert len({frame for _, frame in world.fleet.answers}) == 1


async def test_a_command_that_still_runs_is_not_answered_twice() -> None:
    # FF-FRE-07, FF-CMD-11.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        world.board.is_stuck = True
        data = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.settle()

        world.air.deliver(FrameClass.CMD, data)
        await world.settle()
        assert world.fleet.codes_of(data) == []
        await world.advance(10.0)

        assert world.board.orders == ["unlock"]
        assert world.fleet.codes_of(data) == [Code.ACTUATOR_TIMEOUT]


async def test_another_request_under_a_used_id_is_refused() -> None:
    # FF-FRE-08.
    async with World() as world:
        data = world.fleet.send(PING)
        await world.settle()
        header = parse_frame(data).header
        other = resigned(header, seq=header.seq + 1, payload=parse_frame(data).payload)

        world.air.deliver(FrameClass.CMD, other)
        await world.settle()

        assert world.fleet.codes_of(data) == [Code.OK, Code.ID_REUSED]


async def test_a_crash_between_accepting_and_acting_is_never_repeated() -> None:
    # FF-CMD-09, FF-CMD-08.
    # I-10, row 2: accepted and durable, then the process dies before the read-back.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        world.board.is_stuck = True
        data = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.settle()
        assert world.board.orders == ["unlock"]

        greeted = len(world.fleet.hellos)
        await world.power_cut()
        world.board.is_stuck = False
        await world.advance(5.0)
        world.air.deliver(FrameClass.CMD, data)
        await world.advance(5.0)

        results = world.fleet.results_of(data)
        assert {result.code for result in results} == {Code.INDETERMINATE_AFTER_REBOOT}
        assert results[0].executed is Executed.MAYBE
        assert world.board.orders == ["unlock"]
        assert world.board.locked
        # What is so is told behind it: by the greeting, with what the board reads.
        assert len(world.fleet.hellos) > greeted
        assert Bits.LOCKED in world.fleet.hellos[-1].snapshot.bits


async def test_hello_repeats_how_the_last_commands_ended() -> None:
    # FF-HEL-05.
    # I-11: an outcome lost on the way is settled by the next HELLO.
    async with World() as world:
        world.air.is_deaf = True
        data = world.fleet.send(PING)
        await world.advance(1.0)
        assert world.fleet.codes_of(data) == []

        world.air.cut()
        world.air.is_deaf = False
        world.air.restore()
        await world.advance(5.0)

        msg_id = parse_frame(data).header.msg_id
        outcomes = {o.msg_id: o.code for o in world.fleet.hellos[-1].outcomes}
        assert outcomes[msg_id] is Code.OK


async def test_a_command_of_the_session_before_is_refused_with_the_new_hello() -> None:
    # FF-FRE-04, FF-FRE-09, FF-FRE-10.
    # I-6, step 7: what waited in a tunnel is void after the reconnect.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        stale = world.fleet.command(Unlock(rental_id, ANY_VERSION), ttl_ms=10_000)
        world.air.cut()
        world.air.restore()
        await world.advance(3.0)
        hellos = len(world.fleet.hellos)

        world.air.deliver(FrameClass.CMD, stale)
        await world.settle()

        assert world.fleet.codes_of(stale) == [Code.SESSION_STALE]
        assert world.fleet.results_of(stale)[0].executed is Executed.MAYBE
        assert world.board.locked
        assert len(world.fleet.hellos) == hellos + 1


async def test_every_connection_has_a_session_of_its_own_and_a_rising_hello() -> None:
    # FF-FRE-03, FF-FRE-04, FF-HEL-02.
    async with World() as world:
        await world.restart()
        world.air.cut()
        world.air.restore()
        await world.advance(3.0)

        headers = [
            parse_frame(data).header for data in world.air.frames(FrameClass.HELLO)
        ]
        assert len({header.session_id for header in headers}) == len(headers) == 3
        counters = [header.seq for header in headers]
        assert counters == sorted(set(counters))


async def test_a_refusal_enters_no_ledger() -> None:
    # FF-CMD-14, FF-CMD-04.
    async with World() as world:
        before = len(world.written())

        data = world.fleet.send(Lock(bytes(15) + b"\1", ANY_VERSION, LockMode.END))
        await world.settle()

        assert world.fleet.codes_of(data) == [Code.WRONG_RENTAL]
        assert len(world.written()) == before
        refusal = parse_frame(world.fleet.answers[-1][1])
        assert refusal.header.seq == 0


async def test_refusals_are_limited_and_come_again_with_time() -> None:
    # FF-CMD-15.
    # protocol-design.md 1.2: replayed frames must cost neither disk nor bandwidth.
    async with World() as world:
        stale = world.fleet.command(PING, ttl_ms=1)
        await world.advance(1.0)
        for _ in range(20):
            world.air.deliver(FrameClass.CMD, stale)
        await world.settle()
        answered = len(world.fleet.codes_of(stale))
        await world.advance(5.0)
        world.air.deliver(FrameClass.CMD, stale)
        await world.settle()

        assert answered == 8
        assert len(world.fleet.codes_of(stale)) == 9


async def test_a_flood_is_dropped_before_it_costs_a_signature_check() -> None:
    # FF-AUTH-07, K23.
    async with World() as world:
        forged = world.fleet.command(PING)[:-64] + bytes(64)
        for _ in range(200):
            world.air.deliver(FrameClass.CMD, forged)
        await world.settle()

        assert world.gateway.dropped[Code.RATE_LIMITED] >= 100


async def test_receipts_keep_out_no_order_and_orders_no_receipt() -> None:
    # FF-AUTH-07.
    async with World() as world:
        world.fleet.gives_receipts = False
        for _ in range(200):
            world.fleet.give_receipt()
        ping = world.fleet.send(PING)
        await world.settle()
        answers, before = world.fleet.codes_of(ping), await world.kept()
        await world.advance(2.0)
        for _ in range(200):
            world.air.deliver(FrameClass.CMD, ping)
        world.fleet.give_receipt()
        await world.settle()

        assert answers == [Code.OK]
        assert before
        assert await world.kept() == []


async def test_a_flood_for_somebody_else_uses_up_nothing() -> None:
    # FF-AUTH-01: the bucket comes behind what costs no signature check.
    async with World() as world:
        for _ in range(200):
            world.air.deliver(FrameClass.CMD, b"FF" + bytes(200))
        ping = world.fleet.send(PING)
        await world.settle()

        assert world.fleet.codes_of(ping) == [Code.OK]
        await world.advance(10.0)
        data = world.fleet.send(PING)
        await world.settle()
        assert world.fleet.codes_of(data) == [Code.OK]


async def test_a_retained_command_is_refused() -> None:
    # FF-FRE-12.
    # L9, I-9.
    async with World() as world:
        data = world.fleet.command(PING)

        world.air.deliver(FrameClass.CMD, data, retain=True)
        await world.settle()

        assert world.fleet.codes_of(data) == [Code.RETAINED]


async def test_a_command_that_was_refused_never_runs_later() -> None:
    # FF-FRE-25, FF-FRE-26.
    # I-10, I-11: the fleet was told "not executed", signed. A broker that held a copy
    # back, or a resend that crossed the refusal, must not make that a lie.
    async with World() as world:
        rental_id = await world.begin_rental()
        world.board.change(door_open=True)
        order = Lock(rental_id, ANY_VERSION, LockMode.END)
        data = world.fleet.send(order, ttl_ms=20_000)
        await world.advance(1.0)
        world.board.change(door_open=False)

        world.air.deliver(FrameClass.CMD, data)
        await world.advance(1.0)

        assert world.board.orders == ["unlock"]
        assert world.state.mode is RentalMode.STOPPED
        # An answer that was lost on the way comes again as it was.
        assert world.fleet.codes_of(data) == [Code.DOOR_OPEN, Code.DOOR_OPEN]
        assert {r.executed for r in world.fleet.results_of(data)} == {Executed.NO}


async def test_a_command_refused_as_retained_never_runs_as_a_fresh_one() -> None:
    # FF-FRE-25, FF-FRE-26.
    # The broker sets the flag as it likes: first a copy with it, then one without.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        data = world.fleet.command(Unlock(rental_id, ANY_VERSION))

        world.air.deliver(FrameClass.CMD, data, retain=True)
        world.air.deliver(FrameClass.CMD, data)
        await world.advance(1.0)

        assert world.board.orders == []
        assert world.fleet.codes_of(data) == [Code.RETAINED, Code.RETAINED]


async def test_a_retained_command_in_no_lane_at_all_is_refused_and_harms_nothing() -> (
    None
):
    async with World() as world:
        frame = parse_frame(world.fleet.command(PING))
        header = replace(frame.header, lane=77)
        stray = sign_frame(header, frame.payload, fleet_id=FLEET_ID, key=COMMAND_KEY)

        world.air.deliver(FrameClass.CMD, stray, retain=True)
        await world.settle()

        assert world.fleet.codes_of(stray) == [Code.RETAINED]
        assert world.is_running


async def test_a_command_that_lived_too_long_never_runs_when_it_has_aged() -> None:
    # FF-FRE-25.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        data = world.fleet.send(Unlock(rental_id, ANY_VERSION), ttl_ms=12_000)
        await world.advance(4.0)

        world.air.deliver(FrameClass.CMD, data)
        await world.advance(1.0)

        assert world.board.orders == []
        assert world.fleet.codes_of(data) == [Code.TTL_TOO_LONG, Code.TTL_TOO_LONG]


async def test_a_command_that_found_the_car_busy_may_come_again() -> None:
    # FF-FRE-25.
    # forged_busy_single_token: BUSY asks for the same bytes, so it spends nothing.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        world.board.is_stuck = True
        first = world.fleet.send(Unlock(rental_id, ANY_VERSION), ttl_ms=9_000)
        second = world.fleet.send(Unlock(rental_id, ANY_VERSION), ttl_ms=9_000)
        await world.advance(4.0)
        world.board.is_stuck = False

        world.air.deliver(FrameClass.CMD, second)
        await world.advance(1.0)

        assert world.fleet.codes_of(first) == [Code.ACTUATOR_TIMEOUT]
        assert world.fleet.codes_of(second) == [Code.BUSY, Code.OK]
        assert not world.board.locked


async def test_refusals_are_remembered_within_bounds() -> None:
    async with World() as world:
        wrong = Lock(bytes(15) + b"\1", ANY_VERSION, LockMode.PLAIN)
        oldest = world.fleet.send(wrong, ttl_ms=30_000)
        await world.settle()
        for _ in range(REFUSALS_KEPT):
            world.fleet.send(wrong)
            await world.advance(0.2)

        world.air.deliver(FrameClass.CMD, oldest)
        await world.advance(2.0)

        assert world.fleet.codes_of(oldest)[0] is Code.WRONG_RENTAL
        assert world.fleet.codes_of(oldest)[1:] in ([], [Code.SUPERSEDED])


async def test_a_strangers_command_gets_no_answer_at_all() -> None:
    # FF-AUTH-02, FF-AUTH-03.
    async with World() as world:
        data = world.fleet.command(PING, key=STRANGER_KEY)
        before = len(world.air.up)

        message = world.air.deliver(FrameClass.CMD, data)
        await world.settle()

        assert len(world.air.up) == before
        assert world.gateway.dropped == {Code.UNKNOWN_KEY: 1}
        assert message is not None
        assert message.is_done


@pytest.mark.parametrize(
    "frame_class", [FrameClass.RECEIPT, FrameClass.SYNC, FrameClass.TRUST]
)
async def test_a_command_on_another_classes_topic_is_dropped(
    frame_class: FrameClass,
) -> None:
    # FF-AUTH-04.
    async with World() as world:
        world.air.deliver(frame_class, world.fleet.command(PING))
        await world.settle()

        assert world.gateway.dropped == {Code.WRONG_DIRECTION: 1}


async def test_what_the_car_sent_does_not_come_back() -> None:
    # FF-AUTH-04: a broker that reflects, on whatever topic.
    async with World() as world:
        sent = list(world.air.up)
        for frame_class, data in sent:
            world.air.deliver(frame_class, data)
            world.air.deliver(FrameClass.CMD, data)
        await world.settle()

        assert world.gateway.dropped == {Code.WRONG_DIRECTION: 2 * len(sent)}


async def test_an_older_command_never_overtakes_a_newer_one_of_its_lane() -> None:
    # FF-FRE-22.
    # I-8.
    async with World() as world:
        rental_id = await world.begin_rental()
        unlock = world.fleet.command(Unlock(rental_id, ANY_VERSION))
        lock = world.fleet.command(Lock(rental_id, ANY_VERSION, LockMode.PLAIN))

        world.air.deliver(FrameClass.CMD, lock)
        world.air.deliver(FrameClass.CMD, unlock)
        await world.advance(1.0)

        assert world.fleet.codes_of(lock) == [Code.OK]
        assert world.fleet.codes_of(unlock) == [Code.SUPERSEDED]
        assert world.board.locked


async def test_hazards_flash_for_the_customer_who_looks_for_the_car() -> None:
    # C6, H16.
    async with World() as world:
        rental_id = await world.reserve(ALICE)

        data = world.fleet.send(FlashHazards(rental_id, ANY_VERSION, 10))
        await world.settle()

        assert world.fleet.codes_of(data) == [Code.OK]
        assert world.board.hazards_s == 10


async def test_a_message_is_acknowledged_after_its_work_is_durable() -> None:
    # L2.
    async with World() as world:
        acknowledged_at_sync: list[bool] = []
        command = world.fleet.command(reservation(b"r" * 16, ALICE, world=world))
        message = world.air.deliver(FrameClass.CMD, command)
        assert message is not None

        def look(kind: str, _name: str) -> None:
            if kind == "sync":
                acknowledged_at_sync.append(message.is_done)

        world.disk.fault = look
        await world.settle()

        assert acknowledged_at_sync[0] is False
        assert message.is_done


def resigned(header: Header, *, seq: int, payload: bytes) -> bytes:
    """Sign the same request id again with another sequence."""
    assert header.type == Opcode.PING
    assert header.lane == Lane.DIAGNOSTICS
    return sign_frame(
        Header(
            suite=header.suite,
            frame_class=header.frame_class,
            flags=0,
            type=header.type,
            schema=header.schema,
            lane=header.lane,
            vehicle_id=header.vehicle_id,
            key_id=header.key_id,
            session_id=header.session_id,
            seq=seq,
            mono_ms=header.mono_ms,
            wall_ms=header.wall_ms,
            msg_id=header.msg_id,
        ),
        payload,
        fleet_id=FLEET_ID,
        key=COMMAND_KEY,
    )
