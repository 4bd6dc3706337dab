"""Incident tools in any order with driving, bolts, crashes and reboots (I-33)."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from gateway.core.actions import RestartMachine, RestartPart
from gateway.core.events import StormBegan, StormEnded
from protocol.codes import Code, Executed, FaultKind, RentalMode
from protocol.command import (
    ANY_VERSION,
    Command,
    Ping,
    Reboot,
    RequestSnapshot,
    Restart,
)
from protocol.rental_codes import Component
from protocol.snapshot import NO_RENTAL
from tests.depth import times
from tests.gateway.core.scene import BoardMood, Scene

RESTARTS: Final[tuple[Command, ...]] = (
    *(Restart(NO_RENTAL, ANY_VERSION, part) for part in Component),
    Reboot(NO_RENTAL, ANY_VERSION),
)
QUESTIONS: Final[tuple[Command, ...]] = (
    RequestSnapshot(NO_RENTAL, ANY_VERSION),
    Ping(NO_RENTAL, ANY_VERSION, bytes(16)),
)
TOUCHING: Final = {Component.AGENT}
"""What a car with a silent board must not lose."""


class IncidentMachine(RuleBasedStateMachine):
    """One car, its fleet's operators, and everything that goes wrong with it.

    I-33 (S): refused while it drives or bolts move, once a minute at most, over
    restarts and reboots too, always answered, and never done twice.
    """

    @initialize(mode=st.sampled_from(RentalMode))
    def begin(self, mode: RentalMode) -> None:
        self.scene = Scene()
        self.scene.be(mode)
        self.last_ms: int | None = None

    @rule(command=st.sampled_from(RESTARTS))
    def order_a_restart(self, command: Command) -> None:
        scene = self.scene
        state, now_ms = scene.state, scene.boot_ms
        # `answer` fails if there is none, or more than one.
        result = scene.answer(command)
        done = [
            action
            for action in scene.decisions[-1].actions
            if isinstance(action, RestartPart | RestartMachine)
        ]

        assert len(done) == (1 if result.code is Code.OK else 0)
        assert (result.executed is Executed.YES) is bool(done)
        if not done:
            return
        assert state.pending is None
        reading = state.reading
        if reading is not None and FaultKind.BOARD_SILENT not in state.faults:
            assert not reading.engine_running
            assert not reading.moving
        elif isinstance(command, Restart):
            assert command.component not in TOUCHING
        else:
            raise AssertionError("a car that may drive was rebooted")
        assert self.last_ms is None or now_ms - self.last_ms >= 60_000
        self.last_ms = now_ms

    @rule(first=st.sampled_from(RESTARTS), second=st.sampled_from(RESTARTS))
    def an_operator_is_impatient(self, first: Command, second: Command) -> None:
        """Twice within the minute, at a car that rests."""
        self.scene.mood = BoardMood.OBEYS
        self.scene.board(engine_running=False, ignition_on=False, speed_dkmh=0)
        self.order_a_restart(first)
        self.scene.advance(20)
        self.order_a_restart(second)

    @rule(command=st.sampled_from(QUESTIONS))
    def ask(self, command: Command) -> None:
        before = self.scene.state.mode

        assert self.scene.answer(command).code is Code.OK
        assert self.scene.state.mode is before

    @rule(engine=st.booleans(), speed=st.sampled_from([0, 0, 300, None]))
    def the_car_is_driven(self, engine: bool, speed: int | None) -> None:
        self.scene.board(
            engine_running=engine, ignition_on=engine, speed_dkmh=speed, locked=False
        )

    @rule()
    def bolts_are_ordered_and_do_not_come(self) -> None:
        self.scene.mood = BoardMood.DEAF
        self.scene.tap_later()

    @rule()
    def the_board_falls_silent(self) -> None:
        self.scene.lose_board()

    @rule(seconds=st.sampled_from([1, 20, 61]))
    def time_passes(self, seconds: int) -> None:
        self.scene.advance(seconds)

    @rule(storm=st.sampled_from([StormBegan(), StormEnded()]))
    def the_agent_crashes_often_or_no_more(
        self, storm: StormBegan | StormEnded
    ) -> None:
        """I-30: a storm takes no answer away."""
        self.scene.happen(storm)

    @rule()
    def the_agent_starts_anew(self) -> None:
        self.scene.restart()

    @rule()
    def the_computer_starts_anew(self) -> None:
        self.scene.restart(off_s=5.0)
        # Counted as just done: nobody can reboot a car in a loop (I-30).
        if self.last_ms is not None:
            self.last_ms = self.scene.boot_ms


TestIncidentMachine = IncidentMachine.TestCase
TestIncidentMachine.settings = settings(
    max_examples=times(25, deep=500), stateful_step_count=25, deadline=None
)
