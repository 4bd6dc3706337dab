"""What is asked of a car whose engine runs or that may move: it keeps its engine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.actions import AllowEngine, DriveLocks, RestartMachine, RestartPart
from gateway.core.reading import STALE_MS
from protocol.codes import LockMode
from protocol.command import ANY_VERSION, Command, Reboot, Restart
from protocol.rental_codes import Component
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.scene import CARD, BoardMood, Scene, hold, lock

ASKED = (
    hold(),
    *(lock(mode) for mode in LockMode),
    Restart(NO_RENTAL, ANY_VERSION, Component.AGENT),
    Reboot(NO_RENTAL, ANY_VERSION),
)
"""Everything by which a fleet could take an engine, doors or a computer away."""

SPEEDS = st.none() | st.integers(0, 3) | st.integers(0, 3_000)
AGES_MS = st.sampled_from([0, STALE_MS, STALE_MS + 1]) | st.integers(0, 3_600_000)


@pytest.mark.parametrize(
    "command", [*ASKED, None], ids=lambda each: type(each).__name__
)
@given(speed_dkmh=SPEEDS, age_ms=AGES_MS, running=st.booleans(), ignition=st.booleans())
def test_an_engine_is_taken_from_a_car_that_is_known_to_stand_only(
    command: Command | None,
    speed_dkmh: int | None,
    age_ms: int,
    running: bool,
    ignition: bool,
) -> None:
    """I-1, I-2 (P): over speed, age of the report and engine; by order and by card."""
    scene = Scene()
    scene.rent_and_release()
    scene.advance(10)
    scene.board(
        speed_dkmh=speed_dkmh,
        engine_running=running,
        ignition_on=running or ignition,
    )
    scene.mood = BoardMood.DEAF
    scene.forget()
    scene.state = replace(scene.state, reading_at_ms=scene.boot_ms - age_ms)

    if command is None:
        scene.tap(CARD)
    else:
        scene.order(command)

    stands = age_ms <= STALE_MS and speed_dkmh == 0 and not running
    taken = (
        AllowEngine(released=False),
        RestartMachine(),
        RestartPart(Component.AGENT),
    )
    done = [action for each in scene.decisions for action in each.actions]
    assert stands or not any(action in done for action in taken)
    assert (stands and not ignition) or DriveLocks(locked=True) not in done
