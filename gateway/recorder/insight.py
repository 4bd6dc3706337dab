"""What a car can say of itself to SNAPSHOT and EXPLAIN, beside its state.

Implements `gateway.runtime.diagnostician.Insight`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.core.actions import DriveLocks, ShowLight
from gateway.core.events import CardPresented, CommandReceived
from gateway.recorder.explanation import explain
from gateway.recorder.flight_recorder import FlightRecorder
from gateway.recorder.replay import Replayed
from gateway.recorder.software import software
from gateway.runtime.endurance import Endurance
from protocol.command import Explain
from protocol.diagnosis import ExplainSubject

NOT_RECORDED: Final = ("no flight recorder runs",)
"""The answer of a car without one, and of a reduced one."""


class CarInsight:
    """What is known beside the state.

    Args:
        recorder: of the decisions; None for none.
        endurance: of the starts; None where nobody counts them.
        board_starts: how often the board has started, None if unknown.
        told: what the caller alone knows.
    """

    def __init__(
        self,
        recorder: FlightRecorder | None,
        endurance: Endurance | None,
        *,
        board_starts: Callable[[], int | None],
        told: Callable[[], Sequence[str]],
    ) -> None:
        self._recorder = recorder
        self._endurance = endurance
        self._board_starts = board_starts
        self._told = told
        # Installed software does not change under a running agent.
        self._software = software()

    def facts(self) -> Sequence[str]:
        """Return what SNAPSHOT says more: software, starts, recorder, certificates."""
        starts = self._board_starts()
        lines = [
            *self._software,
            f"board_starts={'-' if starts is None else starts}",
            *self._told(),
        ]
        if self._endurance is not None:
            reduced = "reduced" if self._endurance.start.reduced else "whole"
            lines.append(f"agent={reduced} crashes={self._endurance.crashes}")
            newest_first = [each.value for each in reversed(self._endurance.endings)]
            lines.append(f"last_ends={','.join(newest_first) or '-'}")
        if self._recorder is not None:
            lines.append(f"recorder_bytes={self._recorder.written}")
        return lines

    def explain(self, subject: ExplainSubject, about_id: bytes) -> Sequence[str]:
        """Return why, from what the recorder remembers of this run."""
        if self._recorder is None:
            return NOT_RECORDED
        for step in reversed(self._recorder.remembered()):
            if is_about(step, subject) and _is_of(step, about_id):
                told = explain(step)
                return (
                    f"at={told.wall_ms}",
                    told.happened,
                    *(f"because {reason}" for reason in told.because),
                    *(f"then {deed}" for deed in told.did),
                )
        return ()


def is_about(step: Replayed, subject: ExplainSubject) -> bool:
    """Return whether a step is what somebody asks about."""
    actions = step.decision.actions
    match subject:
        case ExplainSubject.TAP:
            return isinstance(step.step.event, CardPresented)
        case ExplainSubject.COMMAND:
            event = step.step.event
            # Who asks means another order than the question itself.
            return isinstance(event, CommandReceived) and not isinstance(
                event.command, Explain
            )
        case ExplainSubject.LOCK:
            return any(isinstance(action, DriveLocks) for action in actions)
        case ExplainSubject.LIGHT:
            return any(isinstance(action, ShowLight) for action in actions)


def _is_of(step: Replayed, about_id: bytes) -> bool:
    event = step.step.event
    if not any(about_id):
        return True
    return isinstance(event, CommandReceived) and event.msg_id == about_id
