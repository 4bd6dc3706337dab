"""The whole table of the rental axis, cell by cell."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.core.appearance import CONDITIONS, Reason
from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.core.table import TABLE, IllegalTransitionError, Trigger, next_mode
from gateway.core.turn import Turn
from protocol.codes import ClockQuality, Condition, RentalMode
from tools import states

EXPECTED: dict[tuple[RentalMode, Trigger], RentalMode] = {
    (RentalMode.AVAILABLE, Trigger.RESERVED_BY_FLEET): RentalMode.RESERVED,
    (RentalMode.AVAILABLE, Trigger.GRANT_PRESENTED): RentalMode.RESERVED,
    (RentalMode.RESERVED, Trigger.RESERVATION_EXPIRED): RentalMode.AVAILABLE,
    (RentalMode.RESERVED, Trigger.RESERVATION_CANCELLED): RentalMode.AVAILABLE,
    (RentalMode.RESERVED, Trigger.DOORS_OPENED): RentalMode.STOPPED,
    (RentalMode.STOPPED, Trigger.ENGINE_STARTED): RentalMode.DRIVING,
    (RentalMode.STOPPED, Trigger.LOCKED_TO_PARK): RentalMode.PARKED,
    (RentalMode.STOPPED, Trigger.LOCKED_TO_END): RentalMode.AVAILABLE,
    (RentalMode.STOPPED, Trigger.REFUEL_CHOSEN): RentalMode.REFUELLING,
    (RentalMode.STOPPED, Trigger.HANDED_OVER): RentalMode.STOPPED,
    (RentalMode.DRIVING, Trigger.ENGINE_STOPPED): RentalMode.STOPPED,
    (RentalMode.PARKED, Trigger.DOORS_OPENED): RentalMode.STOPPED,
    (RentalMode.PARKED, Trigger.LOCKED_TO_END): RentalMode.AVAILABLE,
    (RentalMode.REFUELLING, Trigger.REFUEL_FINISHED): RentalMode.STOPPED,
    (RentalMode.REFUELLING, Trigger.ENGINE_STARTED): RentalMode.DRIVING,
}
"""Written again by hand from requirements C2 to C27: the oracle of the table."""

CELLS = [(mode, trigger) for mode in RentalMode for trigger in Trigger]


@pytest.mark.parametrize(("mode", "trigger"), CELLS)
def test_a_trigger_leads_where_the_requirements_say_or_changes_nothing(
    mode: RentalMode, trigger: Trigger
) -> None:
    # I-17
    turn = Turn(State(mode=mode, version=7), Moment(1, 2, ClockQuality.NTP))
    expected = EXPECTED.get((mode, trigger))

    if expected is not None:
        turn.transit(trigger)
        assert (turn.state.mode, turn.state.version) == (expected, 8)
        return
    with pytest.raises(IllegalTransitionError) as caught:
        turn.transit(trigger)
    assert turn.state == State(mode=mode, version=7)
    assert (caught.value.mode, caught.value.trigger) == (mode, trigger)
    assert str(caught.value) == f"{mode.name} has no transition for {trigger.name}"


def test_every_mode_has_a_row_and_every_mode_can_be_reached() -> None:
    reached = {RentalMode.AVAILABLE}
    while more := {t for mode in reached for t in TABLE[mode].values()} - reached:
        reached |= more

    assert set(TABLE) == set(RentalMode)
    assert reached == set(RentalMode)


def test_every_mode_has_a_way_back_to_available() -> None:
    # Nobody keeps a car for ever.
    back = {RentalMode.AVAILABLE}
    while more := {m for m, row in TABLE.items() if back & set(row.values())} - back:
        back |= more

    assert back == set(RentalMode)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TABLE[RentalMode.AVAILABLE] = {}  # type: ignore[index] # that is the point
    assert next_mode(RentalMode.PARKED, Trigger.DOORS_OPENED) is RentalMode.STOPPED


def test_the_document_is_what_the_table_says() -> None:
    text = states.PATH.read_text(encoding="utf-8")

    assert text == states.generate()
    modes = list(RentalMode)
    for trigger in Trigger:
        targets = (EXPECTED.get((mode, trigger)) for mode in modes)
        cells = " | ".join("-" if each is None else each.name for each in targets)
        assert f"| {trigger.value} | {cells} |\n" in text
    assert "![Modes and what leads from one to the next](states.svg)" in text


def test_the_diagram_has_an_arrow_for_every_transition() -> None:
    drawing = states.DIAGRAM_PATH.read_text(encoding="utf-8")

    assert drawing == states.generate_diagram()
    # A handover leads back to where it began and is not drawn.
    moves = {key: to for key, to in EXPECTED.items() if to is not key[0]}
    assert drawing.count("<line ") == len({(m, to) for (m, _), to in moves.items()})
    for _, trigger in moves:
        assert f">{trigger.value}</text>" in drawing
    for mode in RentalMode:
        assert f">{mode.name}</text>" in drawing


@pytest.mark.parametrize("row", CONDITIONS, ids=lambda row: row.condition.name)
def test_the_document_tells_every_condition_and_green_is_free_and_ok_only(
    row: Reason,
) -> None:
    # H15
    text = states.PATH.read_text(encoding="utf-8")
    begin = f"| {row.condition.name} | {row.words} |"
    [told] = [line for line in text.splitlines() if line.startswith(begin)]

    assert ("green" in told) is (row.condition is Condition.OK)


def test_an_outdated_document_is_noticed_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "states.md"
    monkeypatch.setattr(states, "PATH", path)
    monkeypatch.setattr(states, "DIAGRAM_PATH", tmp_path / "states.svg")
    run = CliRunner().invoke

    missing = run(states.main, ["--check"])
    written = run(states.main)
    current = run(states.main, ["--check"])
    path.write_text("something else", encoding="utf-8")
    outdated = run(states.main, ["--check"])

    assert [r.exit_code for r in (missing, written, current, outdated)] == [1, 0, 0, 1]
    assert "run make docs" in outdated.output
