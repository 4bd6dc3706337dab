"""An agent that crashes again and again: bounded starts, and never given up (I-30)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import StormBegan, StormEnded
from gateway.core.restart_storm import (
    ENDINGS_LIMIT,
    WHOLE_CRASHES,
    Ending,
    Patience,
    RunNote,
    Stage,
    Start,
    begin,
    end,
    plan_start,
    reduced_for_ms,
    settle,
    stabilise,
)
from protocol.codes import FaultKind, RentalMode
from protocol.event import FaultCleared, FaultRaised
from tests.gateway.core.scene import Scene

USUAL = Patience()
START_COST_MS = 5_000
"""How long a start keeps a small computer busy (assumed)."""


def start(note: RunNote, boot_mark: str = "a") -> tuple[Start, RunNote]:
    return plan_start(note, boot_mark=boot_mark, patience=USUAL)


def crashed(count: int) -> tuple[Start, RunNote]:
    """Return the start after so many runs that crashed at once."""
    note = RunNote()
    for _ in range(count):
        _, note = start(note)
        note = begin(note)
    return start(note)


def test_a_first_start_and_one_after_one_crash_wait_for_nothing() -> None:
    """I-30, L13: the ledger is opened anew at once after an I/O error."""
    assert crashed(0)[0] == Start(wait_ms=0, reduced=False, in_storm=False)
    assert crashed(1)[0] == Start(wait_ms=0, reduced=False, in_storm=False)


def test_the_wait_doubles_and_the_fourth_crash_in_a_row_reduces_the_agent() -> None:
    # I-30
    starts = [crashed(count)[0] for count in range(2, 12)]

    assert [s.wait_ms // 1000 for s in starts] == [
        *(5, 10, 20, 40, 80, 160, 320, 640, 900, 900)
    ]
    assert [s.reduced for s in starts] == [False, False, *(True,) * 8]


def test_a_run_that_ends_in_order_is_no_crash() -> None:
    _, note = crashed(2)
    ended = end(begin(note))

    after, _ = start(ended)

    assert after == Start(wait_ms=0, reduced=False, in_storm=False)


def test_a_crash_long_after_the_start_is_the_first_of_its_own() -> None:
    _, note = crashed(3)
    note = stabilise(settle(begin(note)))

    after, counted = start(note)

    assert counted.crashes == 1
    assert after.wait_ms == 0


@pytest.mark.parametrize(("stage", "counts"), [(begin, 1), (settle, 0), (stabilise, 0)])
def test_power_that_goes_counts_only_in_the_first_minute(
    stage: object, counts: int
) -> None:
    """I-30: a computer that resets itself is a storm too; a starter motor is none."""
    _, note = crashed(0)
    assert callable(stage)

    _, after = start(stage(note), boot_mark="b")

    assert after.crashes == counts


def test_a_reduced_agent_tries_to_be_whole_ever_more_rarely() -> None:
    """I-30: it leaves by rule, and a try that fails costs one start."""
    _, note = crashed(WHOLE_CRASHES + 1)
    waits = []
    for _ in range(8):
        waits.append(reduced_for_ms(note, USUAL) // 60_000)
        note = end(stabilise(settle(begin(note))), tries_whole=True)
        tried, note = start(note)
        assert tried == Start(wait_ms=0, reduced=False, in_storm=True)
        reduced, note = start(begin(note))
        assert reduced.reduced

    assert waits == [10, 20, 40, 80, 160, 320, 360, 360]


def test_a_try_that_lasts_ends_the_storm() -> None:
    _, note = crashed(WHOLE_CRASHES + 1)
    note = end(stabilise(begin(note)), tries_whole=True)
    _, note = start(note)

    healed = stabilise(settle(begin(note)))

    assert replace(healed, endings=()) == RunNote(stage=Stage.STABLE, boot_mark="a")


def test_how_runs_ended_is_remembered_for_the_last_of_them() -> None:
    """Issue 4, point 7: ordered, crashed, or with the machine."""
    _, note = start(RunNote(), "a")
    first = note.endings
    _, note = start(end(begin(note)), "a")
    _, note = start(begin(note), "a")
    _, note = start(stabilise(settle(begin(note))), "b")
    told = note.endings
    for _ in range(ENDINGS_LIMIT):
        _, note = start(begin(note), "b")

    assert first == ()
    assert told == (Ending.ORDERED, Ending.CRASH, Ending.MACHINE)
    assert note.endings == (Ending.CRASH,) * ENDINGS_LIMIT


@given(
    lives=st.lists(
        st.tuples(st.integers(0, 700_000), st.booleans()), min_size=20, max_size=40
    )
)
def test_however_runs_end_a_start_is_planned_and_few_are_close_together(
    lives: list[tuple[int, bool]],
) -> None:
    """I-30 (P): runs of any length that crash, with or without the computer.

    A run that did not settle is paid for by a wait: of such runs, no more than ten lie
    in one quarter of an hour, whatever the others are.
    """
    note, now_ms, short, boot = RunNote(), 0, list[int](), 0
    for length_ms, with_machine in lives:
        planned, note = start(note, str(boot))
        assert planned.wait_ms <= USUAL.longest_wait_ms
        assert planned.in_storm or not planned.reduced
        now_ms += planned.wait_ms
        note = begin(note)
        if length_ms >= USUAL.settled_ms:
            note = settle(note)
        else:
            short.append(now_ms)
        if length_ms >= USUAL.stable_ms:
            note = stabilise(note)
        now_ms += length_ms + START_COST_MS
        boot += with_machine
    for begun_ms in short:
        quarter = [at for at in short if begun_ms <= at < begun_ms + 900_000]
        assert len(quarter) <= 10


@given(ends=st.lists(st.sampled_from(["crash", "power"]), min_size=20, max_size=60))
def test_crashes_at_the_start_for_ever_leave_a_car_that_hardly_works(
    ends: list[str],
) -> None:
    """I-30 (P, F): after the first dozen at most four starts an hour, all reduced."""
    note, boot, waits = RunNote(), 0, list[int]()
    for how in ends:
        planned, note = start(note, str(boot))
        waits.append(planned.wait_ms)
        assert planned.reduced is (len(waits) > WHOLE_CRASHES + 1)
        note = begin(note)
        boot += how == "power"

    assert all(wait == USUAL.longest_wait_ms for wait in waits[12:])
    busy = START_COST_MS / (USUAL.longest_wait_ms + START_COST_MS)
    assert busy < 0.01


def test_the_storm_is_told_once_and_cleared_once() -> None:
    """I-30, H15: one signed fault for each episode, over restarts; and nobody rents."""
    scene = Scene()
    scene.happen(StormBegan())
    scene.happen(StormBegan())
    scene.restart()
    scene.report()
    scene.happen(StormBegan())

    assert scene.told(FaultRaised) == [FaultRaised(FaultKind.RESTART_STORM)]
    assert scene.light == "blinking fault_pattern"

    scene.happen(StormEnded())
    scene.happen(StormEnded())

    assert scene.told(FaultCleared) == [FaultCleared(FaultKind.RESTART_STORM)]
    assert scene.light == "green"


def test_a_rental_goes_on_in_a_storm_and_ends_by_card() -> None:
    # I-30, I-19
    scene = Scene()
    scene.rent_and_release()
    scene.happen(StormBegan())
    scene.drive()
    scene.tap_later()

    assert scene.mode is RentalMode.AVAILABLE
