"""Restarts of agent and machine (I-5, I-10, I-28, protocol-design.md 1.3)."""

from dataclasses import replace

import pytest

from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.events import (
    Noted,
    ReaderLost,
)
from gateway.core.prompts import Choice
from protocol.codes import (
    ClockQuality,
    Code,
    Executed,
    FaultKind,
    RentalMode,
    Retry,
)
from protocol.event import (
    AgentStarted,
    EngineStarted,
    EngineStopped,
    FaultCleared,
    FaultRaised,
    RentalEnded,
    ReservationExpired,
    Resumed,
)
from protocol.result import Result
from tests.gateway.core.scene import (
    BoardMood,
    Scene,
    hold,
    lock,
    release,
    reserve,
    unlock,
)


def test_every_start_is_told_in_the_ledger() -> None:
    scene = Scene()

    scene.restart()

    assert [told.boot_counter for told in scene.told(AgentStarted)] == [1, 2]


def test_what_the_shell_learned_enters_the_ledger_and_decides_nothing() -> None:
    scene = Scene()
    before = scene.state.essence()

    decision = scene.happen(
        Noted((AgentStarted(7, bytes(4)), FaultCleared(FaultKind.READER_GONE)))
    )

    assert decision.entries == (
        AgentStarted(7, bytes(4)),
        FaultCleared(FaultKind.READER_GONE),
    )
    assert scene.state.essence() == before


def test_a_car_that_has_just_started_shows_no_green_before_it_knows() -> None:
    # I-16: unknown is the fault pattern, never "free".
    scene = Scene()

    scene.restart()
    unknown = scene.light
    scene.report()

    assert unknown == "blinking fault_pattern"
    assert scene.light == "green"


@pytest.mark.parametrize("off_s", [None, 0, 3_600])
@pytest.mark.parametrize("mode", [mode for mode in RentalMode if mode.in_rental])
def test_a_rental_goes_on_after_a_restart(
    mode: RentalMode, off_s: float | None
) -> None:
    # I-28: same rental, same doors, same intent for the engine.
    scene = Scene()
    scene.be(mode)
    reading = scene.reading
    rental_id = scene.state.rental_id

    scene.restart(off_s=off_s)
    scene.report()

    assert scene.mode is mode
    assert scene.state.rental_id == rental_id
    assert scene.reading == reading
    assert scene.light == "red"


def test_a_restart_of_the_agent_alone_estimates_nothing() -> None:
    # FF-LED-28.
    scene = Scene()
    scene.rent()
    scene.advance(30)

    scene.restart()
    scene.advance(30)
    scene.tap()

    report = scene.one(RentalEnded)
    assert (report.total_ms, report.estimated) == (60_000, False)


def test_time_without_power_is_bridged_by_the_wall_clock_and_called_an_estimate() -> (
    None
):
    # FF-LED-28.
    scene = Scene()
    scene.rent()
    scene.advance(30)

    scene.restart(off_s=600)
    scene.advance(30)
    scene.tap()

    report = scene.one(RentalEnded)
    assert (report.total_ms, report.estimated) == (660_000, True)


def test_a_stay_goes_on_without_power() -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)
    scene.advance(10)
    scene.restart(off_s=100)
    scene.advance(10)
    scene.restart(off_s=100)
    scene.advance(10)

    scene.tap()

    assert scene.one(Resumed).parked_ms == 230_000
    scene.tap_later()
    report = scene.one(RentalEnded)
    assert report.parking_ms == 230_000
    assert report.total_ms == 6_000 + 230_000 + 6_000


@pytest.mark.parametrize("quality", [ClockQuality.UNSET, ClockQuality.NTP])
def test_when_no_clock_tells_the_time_off_is_not_billed(quality: ClockQuality) -> None:
    # A clock that lost its battery goes back, or says that it knows nothing. The 30 s
    # since the last commit are lost as well; the shell commits once a minute.
    scene = Scene()
    scene.rent()
    scene.advance(30)

    scene.quality = quality
    scene.restart(off_s=600, wall_s=-100)
    scene.advance(30)
    scene.tap()

    report = scene.one(RentalEnded)
    assert (report.total_ms, report.estimated) == (30_000, True)


def test_a_reservation_goes_on_for_what_is_left_of_it() -> None:
    # H1
    scene = Scene()
    scene.reserve(seconds=900)
    scene.advance(100)
    scene.report()

    scene.restart(off_s=300)
    scene.advance(499)
    kept = scene.mode
    scene.advance(1)

    assert kept is RentalMode.RESERVED
    assert scene.mode is RentalMode.AVAILABLE


def test_a_reservation_that_ended_without_power_is_over_at_once() -> None:
    scene = Scene()
    scene.reserve(seconds=900)

    scene.restart(off_s=901)

    assert scene.mode is RentalMode.AVAILABLE
    assert len(scene.told(ReservationExpired)) == 1


@pytest.mark.parametrize(
    ("before", "after", "wall_s"),
    [
        (ClockQuality.UNSET, ClockQuality.NTP, 5),
        (ClockQuality.NTP, ClockQuality.UNSET, 5),
        (ClockQuality.RTC, ClockQuality.RTC, -5),
        # A car without a battery clock goes on from the last time that it knew.
        (ClockQuality.NTP, ClockQuality.RTC, 1),
        (ClockQuality.RTC, ClockQuality.NTP, 1),
        (ClockQuality.RTC, ClockQuality.RTC, 1),
    ],
)
def test_a_reservation_ends_when_no_clock_tells_how_long_it_was_dark(
    before: ClockQuality, after: ClockQuality, wall_s: float
) -> None:
    # H1: it never outlives the fleet's own end, so only a clock by which grants may be
    # judged carries it (protocol-design.md 1.3).
    scene = Scene(quality=before)
    scene.reserve()
    scene.quality = after

    scene.restart(off_s=5, wall_s=wall_s)

    assert scene.mode is RentalMode.AVAILABLE


def test_a_time_server_carries_a_reservation_and_buys_no_more_than_was_left() -> None:
    # H1, I-28, I-29: right after a boot nobody has told the time yet.
    scene = Scene(quality=ClockQuality.NTP)
    scene.reserve()
    before = scene.state.reservation
    assert before is not None
    left_ms = before.until_ms - scene.boot_ms
    scene.is_told_the_time = False

    scene.restart(off_s=5)

    assert scene.mode is RentalMode.RESERVED
    after = scene.state.reservation
    assert after is not None
    assert after.until_ms - scene.boot_ms <= left_ms - 5_000


def test_a_reservation_survives_a_restart_of_the_agent() -> None:
    scene = Scene()
    scene.reserve()

    scene.restart()
    scene.report()
    scene.tap()

    assert scene.mode is RentalMode.STOPPED


@pytest.mark.parametrize("off_s", [None, 10])
def test_a_command_cut_off_by_a_restart_is_answered_and_never_done_again(
    off_s: float | None,
) -> None:
    # FF-CMD-09.
    # I-5, I-10
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.order(unlock())
    scene.mood = BoardMood.OBEYS
    scene.forget()

    scene.restart(off_s=off_s)
    scene.report()

    result = scene.one(Result)
    assert result.code is Code.INDETERMINATE_AFTER_REBOOT
    assert (result.executed, result.retry) == (Executed.MAYBE, Retry.NEW_COMMAND)
    assert scene.done(DriveLocks) == []
    assert scene.mode is RentalMode.RESERVED


def test_a_tap_cut_off_by_a_restart_is_simply_repeated() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.mood = BoardMood.OBEYS
    scene.restart()
    scene.report()

    scene.tap()

    assert scene.mode is RentalMode.STOPPED


def test_a_lock_cut_off_by_a_restart_ends_nothing_and_opens_for_the_customer() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.mood = BoardMood.OBEYS
    scene.reading = replace(scene.reading, locked=True)
    scene.restart()
    scene.report()

    scene.tap()

    assert scene.mode is RentalMode.STOPPED
    assert not scene.reading.locked
    assert scene.told(RentalEnded) == []


def test_a_released_engine_is_released_again_after_the_board_forgot() -> None:
    # I-28
    scene = Scene()
    scene.rent_and_release()
    scene.restart(off_s=10)
    scene.forget()

    scene.board(engine_released=False)

    assert scene.done(AllowEngine) == [AllowEngine(released=True)]
    assert scene.reading.engine_released


def test_a_board_that_comes_back_is_told_about_the_engine_too() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.lose_board()

    scene.board(engine_released=False)

    assert scene.reading.engine_released


@pytest.mark.parametrize(
    "reading",
    [
        {"engine_running": True, "speed_dkmh": 0},
        {"engine_running": False, "speed_dkmh": 5},
        {"engine_running": False, "speed_dkmh": None},
    ],
)
def test_an_engine_is_never_withdrawn_from_a_car_that_moves(
    reading: dict[str, object],
) -> None:
    # FF-CMD-06.
    # I-2
    scene = Scene()
    scene.rent()
    scene.restart()
    scene.forget()

    scene.board(engine_released=True, **reading)

    assert scene.done(AllowEngine) == []


def test_an_engine_that_nobody_released_is_held_after_a_restart() -> None:
    # C11
    scene = Scene()
    scene.restart()
    scene.forget()

    scene.board(engine_released=True)

    assert scene.done(AllowEngine) == [AllowEngine(released=False)]


def test_the_engine_waits_for_doors_that_are_being_opened() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.lose_board()
    scene.mood = BoardMood.DEAF
    scene.order(unlock())
    scene.forget()

    scene.board(engine_released=False, locked=True)

    assert scene.done(AllowEngine) == []


def test_a_release_cut_off_by_a_restart_is_made_good() -> None:
    # The PIN was right; a driver types it once.
    scene = Scene()
    scene.rent()
    scene.mood = BoardMood.DEAF
    scene.type_pin()
    scene.mood = BoardMood.OBEYS

    scene.restart()
    scene.report()

    assert scene.reading.engine_released


def test_a_hold_cut_off_by_a_restart_is_made_good() -> None:
    # The fleet wanted it, and the PIN releases it again.
    scene = Scene()
    scene.rent_and_release()
    scene.mood = BoardMood.DEAF
    scene.order(hold())
    scene.mood = BoardMood.OBEYS

    scene.restart()
    scene.report()

    assert not scene.reading.engine_released
    scene.type_pin()
    assert scene.reading.engine_released


def test_an_engine_that_stopped_in_the_dark_is_noticed() -> None:
    scene = Scene()
    scene.be(RentalMode.DRIVING)
    scene.restart(off_s=60)

    scene.board(engine_running=False, ignition_on=False, speed_dkmh=0)

    assert scene.mode is RentalMode.STOPPED
    assert len(scene.told(EngineStopped)) == 1


def test_an_engine_that_started_in_the_dark_is_noticed() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.restart()

    scene.board(engine_running=True, ignition_on=True, speed_dkmh=100)

    assert scene.mode is RentalMode.DRIVING
    assert len(scene.told(EngineStarted)) == 1


def test_a_reader_that_was_gone_counts_as_back_until_it_is_missed_again() -> None:
    # I-15: a new agent has a new reader, which reports only what it misses itself.
    scene = Scene()
    scene.happen(ReaderLost())
    assert scene.light == "blinking fault_pattern"

    scene.restart()
    scene.report()

    assert len(scene.told(FaultRaised)) == 1
    assert len(scene.told(FaultCleared)) == 1
    assert scene.light == "green"


def test_a_state_survives_its_essence() -> None:
    # What a store keeps is enough to go on.
    scene = Scene()
    scene.be(RentalMode.PARKED)

    essence = scene.state.essence()

    assert essence.essence() == essence
    assert essence.rental == scene.state.rental
    assert essence.reading is None


def test_the_refusals_of_the_last_boot_do_not_silence_those_of_this_one() -> None:
    scene = Scene()
    scene.tap(bytes(4))
    told = len(scene.decisions[-1].entries)
    scene.restart(off_s=1)
    scene.report()

    decision = scene.tap(bytes(4))

    assert told == len(decision.entries) == 1


def test_the_fleet_can_go_on_after_a_restart() -> None:
    scene = Scene()
    scene.rent()
    scene.restart(off_s=60)
    scene.report()

    assert scene.answer(release()).code is Code.OK
    scene.advance(1)
    assert scene.answer(lock()).code is Code.OK
    assert scene.answer(reserve(scene.boot_ms + 10_000)).code is Code.OK


def test_the_choice_survives_a_restart() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.choose(Choice.PARK)
    scene.restart(off_s=3)
    scene.report()

    scene.tap_later()

    assert scene.mode is RentalMode.PARKED


def test_what_passes_needs_no_commit() -> None:
    # Levels, lights and repeated taps must not wear the flash.
    scene = Scene()
    scene.tap(bytes(4))
    before = scene.state.essence()

    scene.advance(1)
    scene.tap(bytes(4))
    scene.board(energy_pct=12, locked=False)
    scene.advance(5)

    assert scene.state.essence() == before
