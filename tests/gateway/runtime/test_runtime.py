"""What the shell promises beyond a rental: order, time, floods and silence."""

import asyncio
import base64
import logging
from collections import Counter

import pytest

from gateway.core.authentication import JournalRecord
from gateway.core.events import (
    BoardReported,
    CommandReceived,
    DeadlineReached,
    PinChecked,
    PinEntered,
    PositionFixed,
)
from gateway.core.moment import Moment
from gateway.core.prompts import Choice, PromptKey
from gateway.ports import StoreError
from gateway.runtime.answer_limit import ANSWERS_BURST, AnswerLimit
from gateway.runtime.journal import KEPT_MS, KEPT_RECORDS, Journal
from gateway.runtime.mailbox import Mailbox
from gateway.runtime.runtime import QUEUE_LIMIT
from protocol.codes import (
    ClockQuality,
    Code,
    FrameClass,
    Lane,
    Light,
    LockMode,
    RentalMode,
)
from protocol.command import ANY_VERSION, Lock, Ping, Unlock
from tests.gateway.devices import FakeVault
from tests.gateway.world import ALICE, MALLORY, PIN, World


async def test_a_reservation_ends_by_itself_at_its_instant() -> None:
    # H1: one timer, on the boot clock, without any network.
    async with World() as world:
        await world.reserve(ALICE)
        world.air.cut()

        modes = []
        for seconds in (15 * 60 - 2, 3):
            await world.advance(seconds)
            modes.append(world.state.mode)

        assert modes == [RentalMode.RESERVED, RentalMode.AVAILABLE]
        assert world.board.light == (Light.GREEN, False)


async def test_a_jump_of_the_wall_clock_moves_no_deadline() -> None:
    # I-29.
    async with World() as world:
        await world.reserve(ALICE)

        world.clock.wall_offset_ms += 10 * 365 * 86_400_000
        await world.advance(60)

        assert world.state.mode is RentalMode.RESERVED


async def test_a_car_at_rest_does_not_wake_for_nothing() -> None:
    async with World() as world:
        await world.advance(60.0)
        before = len(world.steps)

        await world.advance(600.0)

        # Board reports, and now and then that the car is where it was; no deadline is
        # looked at again and again.
        kinds = Counter(type(step.event) for step in world.steps[before:])
        assert kinds == {BoardReported: 600, PositionFixed: 60}
        assert not any(isinstance(s.event, DeadlineReached) for s in world.steps)


async def test_a_slow_pin_check_holds_up_nothing_else() -> None:
    gate = asyncio.Event()
    vault = FakeVault(PIN)
    vault.wait = gate.wait
    async with World(vault=vault) as world:
        await world.begin_rental()
        world.display.type_pin(PIN)
        await world.advance(5.0)
        assert world.state.reading_at_ms > world.clock.boot_ms - 1_500
        assert not world.board.car.engine_released

        gate.set()
        await world.advance(1.0)

        assert world.board.car.engine_released


async def test_a_pin_check_ends_with_the_gateway() -> None:
    gate = asyncio.Event()
    vault = FakeVault(PIN)
    vault.wait = gate.wait
    world = World(vault=vault)
    async with world:
        await world.begin_rental()
        world.display.type_pin(PIN)
        await world.settle()

    gate.set()
    assert not any(isinstance(step.event, PinChecked) for step in world.steps)


async def test_what_is_watched_shows_no_pin() -> None:
    async with World() as world:
        await world.begin_rental()
        world.display.type_pin("7531")
        await world.advance(1.0)

        typed = [step for step in world.steps if isinstance(step.event, PinEntered)]
        assert typed
        assert not any("7531" in repr(step) for step in world.steps)


async def test_no_cards_uid_and_no_pin_is_on_the_disk_or_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # FF-SEC-03.
    # K2, H6: a rental knows a card by a digest; the UID itself passes.
    caplog.set_level(logging.DEBUG)
    async with World() as world:
        await world.begin_rental()
        world.display.type_pin(PIN)
        await world.advance(1.0)
        world.present(MALLORY)
        await world.advance(61.0)

        written = b"".join(bytes(file.cache) for file in world.disk.files.values())
        for uid in (ALICE, MALLORY):
            forms = (uid, uid.hex().encode(), base64.b64encode(uid).rstrip(b"="))
            assert not [form for form in forms if form in written]
            assert uid.hex() not in caplog.text
        assert PIN not in caplog.text


async def test_the_fuel_cards_pin_is_shown_in_refuel_mode_only() -> None:
    # H6.
    async with World() as world:
        await world.begin_rental()
        world.display.type_pin(PIN)
        await world.advance(1.0)
        world.display.choose(Choice.REFUEL)
        await world.advance(1.0)
        assert world.display.prompt.key is PromptKey.FUEL_CARD_PIN
        assert world.display.secret == "0815"

        world.display.choose(Choice.REFUEL_DONE)
        await world.advance(1.0)

        assert world.display.secret == ""


async def test_a_device_that_floods_loses_its_own_reports_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with World() as world:
        for _ in range(QUEUE_LIMIT + 100):
            world.board.change(supply_mv=12_000)
        await world.settle()

        assert "lost one BoardReported" in caplog.text
        assert world.is_running


def held_up(world: World, seconds: float) -> None:
    """Let the machine sleep, or its disk stall, in the middle of the next commit."""

    def stall(kind: str, _name: str) -> None:
        if kind == "sync":
            world.disk.fault = None
            world.clock.boot_ms += round(seconds * 1000)

    world.disk.fault = stall


async def test_an_unlock_that_a_suspend_held_up_moves_no_bolt() -> None:
    # FF-FRE-21.
    # I-6, row 11: accepted in time, and the machine slept before it could act. Nobody
    # stands at the car any more.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        held_up(world, 8 * 3_600)

        data = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(10.0)

        assert world.board.orders == []
        assert world.board.locked
        assert world.fleet.codes_of(data) == [Code.ACTUATOR_TIMEOUT]


async def test_a_lock_that_a_stalling_disk_held_up_takes_no_engine_away() -> None:
    # I-1, I-2: what was seen before the stall says nothing about the car of now.
    async with World() as world:
        rental_id = await world.begin_rental()
        held_up(world, 30.0)

        data = world.fleet.send(Lock(rental_id, ANY_VERSION, LockMode.END))
        await world.advance(10.0)

        assert world.board.orders == ["unlock"]
        assert world.fleet.codes_of(data) == [Code.ACTUATOR_TIMEOUT]
        assert world.state.mode is RentalMode.STOPPED


async def test_a_tap_that_waited_too_long_opens_nothing() -> None:
    # I-6 for cards: whoever tapped has gone away.
    async with World() as world:
        await world.reserve(ALICE)
        await world.advance(2.0)
        held_up(world, 60.0)

        world.present(MALLORY)  # its refusal is written, and that takes a minute
        world.present(ALICE)
        await world.advance(10.0)

        assert world.board.orders == []
        assert world.state.mode is RentalMode.RESERVED


async def test_a_report_that_waited_too_long_says_nothing_about_the_car() -> None:
    # I-2: its age counts from when the board made it.
    async with World() as world:
        rental_id = await world.begin_rental()
        held_up(world, 5.0)

        world.present(MALLORY)
        world.board.change()
        order = Lock(rental_id, ANY_VERSION, LockMode.END)
        data = world.fleet.command(order, ttl_ms=20_000)
        world.air.deliver(FrameClass.CMD, data)
        await world.settle()

        assert world.fleet.codes_of(data) == [Code.BUS_ERROR]


async def test_a_rental_that_only_stands_is_stored_once_a_minute() -> None:
    # protocol-design.md 1.3: a power cut makes at most a minute an estimate.
    async with World() as world:
        await world.begin_rental()
        syncs = 0

        def count(kind: str, _name: str) -> None:
            nonlocal syncs
            syncs += kind == "sync"

        world.disk.fault = count
        await world.advance(600.0)

        assert 10 <= syncs <= 25


async def test_minutes_across_a_power_cut_are_marked_as_estimated() -> None:
    # FF-LED-28.
    async with World() as world:
        await world.begin_rental()
        await world.advance(120.0)

        await world.power_cut(off_s=60.0)
        await world.end_rental()

        (report,) = world.reports()
        assert report.estimated
        assert 180_000 <= report.total_ms <= 260_000


async def test_an_illegal_event_is_said_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with World() as world:
        before = world.state.essence()
        world.gateway.report(PinEntered("1234"))
        world.gateway.report(DeadlineReached())
        await world.settle()

        assert world.state.essence() == before
        assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


async def test_a_job_that_fails_tells_whoever_waits_for_it() -> None:
    mailbox = Mailbox()

    async def fail() -> None:
        raise StoreError("planted")

    waiting = asyncio.create_task(mailbox.ask(fail))
    await asyncio.sleep(0)
    with pytest.raises(StoreError):
        await mailbox.do_next()

    with pytest.raises(StoreError):
        await waiting


async def test_a_job_that_breaks_leaves_nobody_waiting() -> None:
    mailbox = Mailbox()

    async def break_down() -> None:
        raise ZeroDivisionError

    waiting = asyncio.create_task(mailbox.ask(break_down))
    await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        await mailbox.do_next()

    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()


async def test_a_closed_mailbox_cancels_who_waits_and_who_comes() -> None:
    mailbox = Mailbox()

    async def nothing() -> None:
        pass

    early = asyncio.create_task(mailbox.ask(nothing))
    await asyncio.sleep(0)
    mailbox.post(nothing)
    mailbox.close()
    late = asyncio.create_task(mailbox.ask(nothing))
    await asyncio.gather(early, late, return_exceptions=True)

    assert early.cancelled()
    assert late.cancelled()


def at(boot_ms: int) -> Moment:
    return Moment(boot_ms, 0, ClockQuality.UNSET)


def test_each_key_has_its_own_allowance_of_answers() -> None:
    # FF-CMD-15.
    limit = AnswerLimit()

    first = [limit.allows(b"one", now=at(0)) for _ in range(ANSWERS_BURST + 1)]

    assert first == [True] * ANSWERS_BURST + [False]
    assert limit.allows(b"two", now=at(0))
    assert limit.allows(b"one", now=at(1_000))
    assert not limit.allows(b"one", now=at(1_000))


def test_keys_without_number_cost_no_memory() -> None:
    limit = AnswerLimit()

    for number in range(1_000):
        limit.allows(number.to_bytes(8, "big"), now=at(0))

    assert len(limit._allowances) <= 64


def test_the_journal_in_memory_forgets_by_the_stores_rule() -> None:
    # FF-CMD-12.
    # protocol-design.md 1.2: the last 256, and all of a day.
    running = JournalRecord(b"runs", b"", None, Code.IN_PROGRESS)
    done = [
        JournalRecord(number.to_bytes(2, "big"), b"", b"frame", Code.OK)
        for number in range(300)
    ]
    journal = Journal([running, *done], now=at(0))

    journal.accept(command(b"same day"), now=at(KEPT_MS))
    same_day = len(journal.newest(1_000))
    journal.accept(command(b"next day"), now=at(KEPT_MS + 1))

    assert same_day == 302
    assert len(journal.newest(1_000)) == KEPT_RECORDS + 1
    assert journal.find(b"runs") == running
    assert journal.find(done[0].msg_id) is None


def command(msg_id: bytes) -> CommandReceived:
    return CommandReceived(
        command=Ping(bytes(16), ANY_VERSION, bytes(16)),
        msg_id=msg_id,
        request_hash=bytes(32),
        key_id=bytes(8),
        lane=Lane.DIAGNOSTICS,
        seq=1,
    )
