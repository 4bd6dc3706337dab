"""Every event in every mode: nothing raises, nothing contradicts itself (I-16, I-17).

`Scene.happen` checks the invariants after each step.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.core.actions import DriveLocks
from gateway.core.events import (
    AgentStarted,
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
    CardPresented,
    DeadlineReached,
    DiskFailed,
    DiskRecovered,
    Event,
    MenuChosen,
    Noted,
    PinChecked,
    PinEntered,
    PinVerdict,
    PumpEntered,
    ReaderLost,
    ReaderRecovered,
    RoomChanged,
    UplinkConnected,
    UplinkLost,
)
from gateway.core.moment import Moment
from gateway.core.prompts import Choice
from gateway.core.room import Room
from gateway.core.state import Pending, Purpose, State
from gateway.core.vehicle import handle
from protocol.codes import (
    AccessMeans,
    ClockQuality,
    LockMode,
    ModeRequest,
    RentalMode,
)
from protocol.command import ANY_VERSION, Command, FlashHazards, Ping
from protocol.event import AgentStarted as AgentStartedEntry
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.invariants import require_lawful
from tests.gateway.core.scene import (
    CARD,
    FIRMWARE,
    OTHER_RENTAL,
    PIN,
    RENTAL,
    RESTING,
    START_BOOT_MS,
    STRANGER,
    BoardMood,
    Scene,
    cancel,
    hold,
    lock,
    release,
    reserve,
    set_mode,
    unlock,
)

EVENTS: list[Event] = [
    AgentStarted(2, FIRMWARE, same_boot=True),
    AgentStarted(2, FIRMWARE, same_boot=False),
    CardPresented(CARD),
    CardPresented(STRANGER),
    BoardReported(RESTING),
    BoardReported(replace(RESTING, locked=False)),
    BoardReported(replace(RESTING, engine_running=True, speed_dkmh=None)),
    BoardReported(replace(RESTING, energy_pct=3, engine_released=True)),
    *map(BoardRefused, BoardRefusal),
    BoardLost(),
    ReaderLost(),
    ReaderRecovered(),
    PinEntered(PIN),
    PinEntered("letters"),
    *(PinChecked(RENTAL, verdict) for verdict in PinVerdict),
    PinChecked(OTHER_RENTAL, PinVerdict.RIGHT),
    *map(MenuChosen, Choice),
    DeadlineReached(),
    DiskFailed(),
    DiskRecovered(),
    *map(RoomChanged, Room),
    PumpEntered(4),
    UplinkConnected(),
    UplinkLost(),
    Noted((AgentStartedEntry(3, FIRMWARE),)),
]

COMMANDS: list[Command] = [
    unlock(),
    *map(lock, LockMode),
    release(),
    hold(),
    reserve(START_BOOT_MS + 10_000_000),
    reserve(START_BOOT_MS + 10_000_000, rental_id=OTHER_RENTAL),
    cancel(),
    *map(set_mode, ModeRequest),
    FlashHazards(NO_RENTAL, ANY_VERSION, 5),
    Ping(NO_RENTAL, ANY_VERSION, bytes(16)),
]


def _calm(scene: Scene) -> None:
    scene.advance(10)


def _stale(scene: Scene) -> None:
    scene.advance(10, board_reports=False)


def _blind(scene: Scene) -> None:
    scene.lose_board()


def _busy(scene: Scene) -> None:
    """Something is under way, if anything can be in this mode."""
    scene.advance(10)
    scene.mood = BoardMood.DEAF
    scene.tap()


def _restarted(scene: Scene) -> None:
    scene.restart(off_s=20)


SITUATIONS = [_calm, _stale, _blind, _busy, _restarted]


@pytest.mark.parametrize("mode", list(RentalMode))
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda f: f.__name__)
def test_every_event_in_every_mode_leaves_a_lawful_car(
    mode: RentalMode, situation: Callable[[Scene], None]
) -> None:
    for event in EVENTS:
        scene = Scene()
        scene.be(mode)
        situation(scene)

        scene.happen(event)
        scene.advance(100)

        assert scene.state.pending is None


@pytest.mark.parametrize("mode", list(RentalMode))
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda f: f.__name__)
def test_every_command_in_every_mode_is_answered_once(
    mode: RentalMode, situation: Callable[[Scene], None]
) -> None:
    # FF-CMD-11.
    # I-10
    for command in COMMANDS:
        scene = Scene()
        scene.be(mode)
        situation(scene)

        scene.order(command)
        scene.advance(100)

        assert scene.open_requests == set()


def test_what_the_table_does_not_allow_changes_nothing_and_says_why() -> None:
    # A state that no step leads to, as a damaged store could hold it.
    broken = State(
        mode=RentalMode.AVAILABLE,
        pending=Pending(Purpose.PARK, 5_000, AccessMeans.CARD, bytes(32), None),
    )

    decision = handle(
        broken,
        BoardReported(RESTING),
        now=Moment(1_000, 2_000, ClockQuality.NTP),
    )

    assert decision.state == broken
    assert (decision.entries, decision.actions) == ((), ())
    assert decision.illegal == "AVAILABLE has no transition for LOCKED_TO_PARK"


def test_the_invariants_notice_an_order_that_is_not_prudent() -> None:
    # The checks of these tests are worth something only if they can fail.
    scene = Scene()
    scene.be(RentalMode.STOPPED)
    moves = scene.done(DriveLocks)
    assert moves == [DriveLocks(locked=False)]
    decision = scene.board(door_open=True)
    bad = replace(decision, actions=(DriveLocks(locked=True),))

    with pytest.raises(AssertionError):
        require_lawful(scene.state, DeadlineReached(), bad, now=scene.now)
