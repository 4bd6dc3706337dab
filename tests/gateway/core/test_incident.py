"""Incident tools: signed, refused when unsafe, limited, audited, answered (I-33)."""

import pytest

from gateway.core.actions import RestartMachine, RestartPart
from protocol.codes import Code, Executed, RentalMode
from protocol.command import ANY_VERSION, Command, Reboot, RequestSnapshot, Restart
from protocol.rental_codes import Component
from protocol.result import Result
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.scene import OTHER_RENTAL, RENTAL, BoardMood, Scene

REBOOT = Reboot(NO_RENTAL, ANY_VERSION)
SNAPSHOT = RequestSnapshot(NO_RENTAL, ANY_VERSION)


def of(component: Component, rental_id: bytes = NO_RENTAL) -> Restart:
    """An order to start a part anew."""
    return Restart(rental_id, ANY_VERSION, component)


TOOLS: tuple[Command, ...] = (*map(of, Component), REBOOT)


@pytest.mark.parametrize("component", Component)
def test_a_part_of_a_resting_car_is_started_anew(component: Component) -> None:
    """I-33: the answer is in the ledger in the same commit, which is the audit."""
    scene = Scene()
    scene.forget()

    result = scene.answer(of(component))

    assert (result.code, result.executed) == (Code.OK, Executed.YES)
    assert scene.done(RestartPart) == [RestartPart(component)]
    assert scene.one(Result) == result


def test_the_computer_of_a_resting_car_is_started_anew() -> None:
    # I-33
    scene = Scene()

    assert scene.answer(REBOOT).code is Code.OK
    assert scene.done(RestartMachine) == [RestartMachine()]


@pytest.mark.parametrize("command", TOOLS, ids=str)
@pytest.mark.parametrize(
    ("unsafe", "code"),
    [
        ({"engine_running": True, "ignition_on": True}, Code.IGNITION_ON),
        ({"engine_running": True, "speed_dkmh": 1}, Code.VEHICLE_MOVING),
        ({"speed_dkmh": 1}, Code.VEHICLE_MOVING),
    ],
)
def test_nothing_is_started_anew_under_a_driver(
    command: Command, unsafe: dict[str, object], code: Code
) -> None:
    """I-33, I-2: a car in motion keeps its computer, and hears why."""
    scene = Scene()
    scene.rent_and_release()
    scene.board(**unsafe)

    result = scene.answer(command)

    assert (result.code, result.executed) == (code, Executed.NO)
    assert scene.done(RestartPart) == []
    assert scene.done(RestartMachine) == []


@pytest.mark.parametrize("command", TOOLS, ids=str)
def test_nothing_is_started_anew_while_bolts_move(command: Command) -> None:
    """I-33: a command in flight is finished first."""
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.tap()

    assert scene.answer(command).code is Code.BUSY


@pytest.mark.parametrize("second", TOOLS, ids=str)
def test_one_restart_in_a_minute_is_enough(second: Command) -> None:
    """I-33, I-30: rate limited."""
    scene = Scene()
    scene.answer(of(Component.READER))
    scene.advance(59.9)

    early = scene.answer(second)
    scene.advance(0.2)
    later = scene.answer(second)

    assert early.code is Code.RATE_LIMITED
    assert later.code is Code.OK


def test_a_reboot_counts_after_the_reboot_too() -> None:
    """I-30: a fleet that asks again and again does not reboot a car in a loop."""
    scene = Scene()
    scene.answer(REBOOT)
    scene.restart(off_s=30)
    scene.report()

    early = scene.answer(REBOOT)
    scene.advance(60)
    later = scene.answer(REBOOT)

    assert (early.code, later.code) == (Code.RATE_LIMITED, Code.OK)


@pytest.mark.parametrize("component", Component)
def test_a_silent_board_may_be_of_a_car_that_drives(component: Component) -> None:
    """I-2: what cannot touch the drive is started anew, agent and computer are not."""
    scene = Scene()
    scene.lose_board()

    code = scene.answer(of(component)).code

    harmless = component is not Component.AGENT
    assert code is (Code.OK if harmless else Code.BUS_ERROR)
    assert scene.answer(REBOOT).code in {Code.BUS_ERROR, Code.RATE_LIMITED}


@pytest.mark.parametrize("mode", RentalMode)
def test_a_snapshot_is_taken_in_every_mode_and_moves_nothing(mode: RentalMode) -> None:
    # I-33
    scene = Scene()
    scene.be(mode)
    version = scene.state.version

    result = scene.answer(SNAPSHOT)

    assert (result.code, result.snapshot.mode) == (Code.OK, mode)
    assert scene.state.version == version


def test_a_tool_that_names_another_rental_is_refused() -> None:
    scene = Scene()
    scene.rent()

    assert scene.answer(of(Component.READER, RENTAL)).code is Code.OK
    assert scene.answer(of(Component.READER, OTHER_RENTAL)).code is Code.WRONG_RENTAL
