"""Why the car did that: the chain of reasons, read from the mind itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from gateway.core.events import CardPresented, Event, PositionFixed, RoomChanged
from gateway.core.facts import Facts
from gateway.core.reading import Position
from gateway.core.room import Room
from gateway.core.state import State
from gateway.core.turn import Decision
from gateway.recorder.explanation import Explanation, explain
from gateway.recorder.record import Frame, parse_line
from gateway.recorder.replay import Replayed, replay
from gateway.recorder.ring import Ring
from gateway.recorder.tape import Tape
from gateway.runtime.step import Step
from protocol.business_area import BusinessArea
from protocol.codes import RentalMode
from tests.gateway.core.scene import (
    CARD,
    OTHER_RENTAL,
    STRANGER,
    Scene,
    lock,
    reserve,
    unlock,
)
from tests.gateway.core.test_loss import lose
from tools.gateway_recorder import explain_command, replay_command

HERE: Final = Position(521_234_567, 134_567_891, 30, None)


class RecordedScene(Scene):
    """A scene whose steps are taken by a tape."""

    def __init__(self) -> None:
        self.tape = Tape(vehicle="CAR", version="1.0.0", key=bytes(range(32)))
        self.lines: list[bytes] = []
        super().__init__()

    def happen(self, event: Event) -> Decision:
        before, now = self.state, self.now
        # What the event causes is recorded after it, as in the car.
        place = len(self.lines)
        after = self.lines
        self.lines = []
        decision = super().happen(event)
        caused, self.lines = self.lines, after
        assert len(self.lines) == place
        self.lines += self.tape.take(Step(before, event, decision, (), now))
        self.lines += caused
        return decision

    def replayed(self) -> list[Replayed]:
        found = replay(parse_line(line) for line in self.lines)
        return [each for each in found if isinstance(each, Replayed)]

    def last(self, event: str) -> Explanation:
        """Return why the car did what it did at the last event of this name."""
        return [
            explain(step)
            for step in self.replayed()
            if type(step.step.event).__name__ == event
        ][-1]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> RecordedScene:
    # Tapes are taken in order below, so the devices answer when a test says so.
    monkeypatch.setattr(Scene, "_perform", lambda _self, _decision: None)
    return RecordedScene()


def opened(scene: RecordedScene) -> None:
    scene.reserve()
    scene.tap()
    scene.board(locked=False)


def test_a_tap_that_opens_names_the_right_and_the_cell(scene: RecordedScene) -> None:
    opened(scene)

    tap, report = scene.last("CardPresented"), scene.last("BoardReported")

    assert "the card is one of this rental's" in tap.because
    assert any(reason.startswith("the car was RESERVED for") for reason in tap.because)
    assert "asked the board to unlock the doors" in tap.did
    assert "wrote ACCESS_GRANTED to the ledger" in tap.did
    assert (
        "the table leads from RESERVED to STOPPED: the bolts were read back open for "
        "the customer" in report.because
    )
    assert "the indicator follows its rule: red, because mode STOPPED" in report.because


def test_a_refused_tap_says_what_refused(scene: RecordedScene) -> None:
    opened(scene)
    scene.advance(10)
    scene.board(door_open=True)
    scene.tap()
    own = scene.last("CardPresented")
    scene.tap(STRANGER)
    strange = scene.last("CardPresented")

    assert any(reason.startswith("DOOR_OPEN: ") for reason in own.because)
    assert "no rental and no grant of the car knows the card" in strange.because
    # The ledger is spared a second line within half a minute; the reason is told.
    assert any(r.startswith("NOT_FOR_THIS_RENTAL: ") for r in strange.because)


def test_the_same_tap_again_and_one_that_disturbs_are_told(
    scene: RecordedScene,
) -> None:
    """I-14."""
    scene.reserve()
    scene.tap()
    scene.tap()
    again = scene.last("CardPresented")
    scene.advance(2, board_reports=False)
    scene.tap()
    busy = scene.last("CardPresented")

    assert "the same card again at once is still the same tap (I-14)" in again.because
    assert "an actuation was under way, and a tap does not disturb it" in busy.because


def test_a_car_that_lost_its_ledger_says_what_it_asks_and_what_answered(
    scene: RecordedScene,
) -> None:
    """H15, I-16: the tape keeps the loss, and leads to the same decisions."""
    lose(scene)
    began = scene.last("LedgerReplaced")
    scene.tap(CARD)
    tap = scene.last("CardPresented")
    scene.advance(3)
    scene.order(reserve(scene.boot_ms + 900_000))
    order = scene.last("CommandReceived")

    assert began.happened == "the ledger was damaged or lost, and another one began"
    assert began.did[-2:] == (
        "wrote LEDGER_RESET to the ledger",
        "wrote FAULT_RAISED to the ledger",
    )
    asks = "condition FAULT: the ledger was lost: nobody knows who has the car"
    assert any(asks in reason for reason in tap.because)
    assert "wrote FAULT_CLEARED to the ledger" in order.did
    assert "showed yellow" in order.did


def test_a_card_that_is_refused_for_want_of_room_is_told_so(
    scene: RecordedScene,
) -> None:
    """I-20: the recording holds what was measured, and leads to the same refusals."""
    scene.grant()
    scene.happen(RoomChanged(Room.PROMISED))
    scene.tap(CARD)
    scene.order(reserve(scene.boot_ms + 900_000, rental_id=OTHER_RENTAL))

    measured, tap = scene.last("RoomChanged"), scene.last("CardPresented")
    order = scene.last("CommandReceived")

    assert measured.happened == (
        "the disk has room for what is promised, but no new rental"
    )
    assert tap.because[0].startswith("the car was AVAILABLE, condition DEGRADED: ")
    assert tap.because[0].endswith(
        "; its disk had room for what is promised, but no new rental"
    )
    assert any(reason.startswith("NOT_READY: ") for reason in tap.because)
    assert (
        "STORAGE_FULL: the disk has too little room to record it to its end"
        in order.because
    )


def test_a_grant_is_named_with_its_rights(scene: RecordedScene) -> None:
    # H14
    scene.grant()
    scene.tap(CARD)

    tap = scene.last("CardPresented")

    assert f"grant {'61' * 16} lets the card unlock and drive" in tap.because


def test_an_order_says_which_precondition_refused(scene: RecordedScene) -> None:
    opened(scene)
    scene.board(engine_running=True, ignition_on=True, speed_dkmh=100)
    scene.order(lock())
    refused = scene.last("CommandReceived")
    scene.board(speed_dkmh=100, locked=True)
    scene.order(unlock())
    moving = scene.last("CommandReceived")

    assert any(r.startswith("IGNITION_ON: engine or") for r in refused.because)
    assert any(deed.endswith("with IGNITION_ON") for deed in refused.did)
    assert any(r.startswith("VEHICLE_MOVING: the car moves") for r in moving.because)


def test_a_decision_that_hangs_on_the_place_keeps_the_place(
    scene: RecordedScene,
) -> None:
    """K25: coarse, but where the border of the area runs through the kilometre."""
    scene.state = replace(scene.state, facts=Facts(area=area_around(HERE)))
    scene.tape.begin_anew("gap")
    opened(scene)
    scene.advance(10)
    position_told(scene, HERE)
    scene.order(lock())

    frames = [
        record for record in map(parse_line, scene.lines) if isinstance(record, Frame)
    ]
    assert not any(step.diverged for step in scene.replayed())
    assert frames[-1].why == "place"
    assert frames[-1].state.position == HERE


def position_told(scene: RecordedScene, position: Position) -> None:
    scene.happen(PositionFixed(position))


def area_around(position: Position) -> BusinessArea:
    """Return an area of some hundred metres around a place."""
    south, west = position.latitude_e7 - 20_000, position.longitude_e7 - 20_000
    north, east = south + 40_000, west + 40_000
    corners = ((south, west), (south, east), (north, east), (north, west))
    return BusinessArea(inside=(corners,), outside=())


def test_a_sample_is_kept_each_minute_while_values_change(
    scene: RecordedScene,
) -> None:
    opened(scene)
    scene.board(engine_running=True, ignition_on=True, speed_dkmh=300)
    before = len(scene.lines)
    for metres in range(600):
        scene.advance(0.5, board_reports=False)
        scene.board(odometer_m=12_345_000 + metres)

    assert len(scene.lines) - before == 5


def test_the_tape_holds_a_mind_that_is_another_than_it_thought() -> None:
    """A step that does not follow is left out, and a frame goes on from what is."""
    scene = Scene()
    tape = Tape(vehicle="CAR", version="1.0.0", key=bytes(32))
    before = scene.state
    decision = scene.tap(STRANGER)
    wrong = replace(decision, state=State(mode=RentalMode.PARKED))

    event = CardPresented(STRANGER)
    lines = list(tape.take(Step(before, event, wrong, (), scene.now)))
    more = list(tape.take(Step(before, event, decision, (), scene.now)))

    assert [type(parse_line(line)).__name__ for line in lines] == ["Frame", "Frame"]
    assert [type(parse_line(line)).__name__ for line in more] == ["Frame", "KeptStep"]


@pytest.fixture
def recording(scene: RecordedScene, tmp_path: Path) -> Path:
    opened(scene)
    made = Ring(tmp_path)
    made.append(b"".join(scene.lines), now_ms=0)
    made.close()
    return tmp_path


def test_the_command_explains_tap_order_lock_and_light(recording: Path) -> None:
    runner = CliRunner()
    for question, word in (
        ("tap", "the card is one of this rental's"),
        ("command", "the car was AVAILABLE"),
        ("lock", "the card is one of this rental's"),
        ("light", "the indicator follows its rule: red, because mode STOPPED"),
        ("all", "the table leads from RESERVED to STOPPED"),
    ):
        shown = runner.invoke(explain_command, [question, str(recording)])
        asked = runner.invoke(explain_command, [question, str(recording), "--json"])

        assert shown.exit_code == 0
        assert word in shown.output
        assert word in " ".join(json.loads(asked.output)["because"])


def test_the_command_explains_one_order_by_its_id(recording: Path) -> None:
    found = CliRunner().invoke(
        explain_command, ["command", str(recording), "--id", "00" * 15 + "01", "--json"]
    )

    assert json.loads(found.output)["happened"].startswith("order RESERVE 0000")


def test_the_replay_command_shows_each_step_and_fails_at_another_decision(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = CliRunner()
    same = runner.invoke(
        replay_command, [str(recording), "--json"], standalone_mode=False
    )
    monkeypatch.setattr("gateway.core.access.UID_SIZES", frozenset({5}))
    other = runner.invoke(replay_command, [str(recording)], standalone_mode=False)

    lines = [json.loads(line) for line in same.output.splitlines()]
    assert all(line.get("same", True) for line in lines)
    assert same.return_value == 0
    assert other.return_value == 1
    assert "decided otherwise" in other.output
