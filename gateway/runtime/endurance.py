"""How one run of the agent is watched: it settles, is stable, or tries to be whole.

The decisions are the core's (`gateway.core.restart_storm`); here is when they are asked
for. A reduced agent ends itself to be started whole, but not while anybody drives or a
bolt moves: the restart is the same as one that the fleet orders (I-33).
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from gateway.core.events import Event, StormBegan, StormEnded
from gateway.core.restart_storm import (
    Ending,
    Patience,
    RunNote,
    Start,
    begin,
    end,
    plan_start,
    reduced_for_ms,
    settle,
    stabilise,
)
from gateway.core.state import State
from gateway.ports import Clock
from gateway.runtime.parts import AgentRestartError
from protocol.codes import RentalMode

_LOG: Final = logging.getLogger(__name__)

LOOK_MS: Final = 10_000
"""Between two looks whether a car that should start anew stands still."""


class NoteKeeper(Protocol):
    """Keeps the note over the end of the process."""

    def read(self) -> RunNote:
        """Return the note."""

    def write(self, note: RunNote) -> None:
        """Keep the note as far as that can be done."""


class Endurance:
    """One run of the agent.

    Args:
        keeper: of the note.
        patience: how long to wait for what.
        boot_mark: of the machine's present boot.
    """

    def __init__(
        self, keeper: NoteKeeper, *, patience: Patience, boot_mark: str
    ) -> None:
        """Plan the start and count it; `start.wait_ms` is to be slept by the caller."""
        self._keeper = keeper
        self._patience = patience
        note = keeper.read()
        self.start: Start
        """How to start."""
        self.start, self._note = plan_start(
            note, boot_mark=boot_mark, patience=patience
        )
        keeper.write(self._note)

    @property
    def crashes(self) -> int:
        """Crashes in a row before this run."""
        return self._note.crashes

    @property
    def endings(self) -> tuple[Ending, ...]:
        """How the runs before this one ended, oldest first."""
        return self._note.endings

    def begin(self) -> None:
        """Call it after the wait, before anything that can fail."""
        self._keep(begin(self._note))
        if self.start.reduced:
            _LOG.error(
                "= %d crashes in a row: only reader, board and ledger run; all of the "
                "agent is tried again in %d s",
                self._note.crashes,
                reduced_for_ms(self._note, self._patience) // 1_000,
            )

    def end(self) -> None:
        """Call it when the run ends in order."""
        self._keep(end(self._note, tries_whole=self._note.tries_whole))

    async def run(
        self, clock: Clock, report: Callable[[Event], None], state: Callable[[], State]
    ) -> None:
        """Watch until cancelled.

        Args:
            clock: time.
            report: takes events.
            state: returns the state that stands.

        Raises:
            AgentRestartError: this run was reduced; all of the agent is to be tried.
        """
        if self.start.in_storm:
            report(StormBegan())
        began_ms = clock.now().boot_ms
        await clock.sleep_until(began_ms + self._patience.settled_ms)
        self._keep(settle(self._note))
        await clock.sleep_until(began_ms + self._patience.stable_ms)
        self._keep(stabilise(self._note))
        if not self.start.reduced:
            # Also where nothing was told: the event clears what a note was lost of.
            report(StormEnded())
            return
        for_ms = reduced_for_ms(self._note, self._patience)
        await clock.sleep_until(began_ms + for_ms)
        while _is_in_use(state()):
            await clock.sleep_until(clock.now().boot_ms + LOOK_MS)
        self._keep(end(self._note, tries_whole=True))
        raise AgentRestartError(of_machine=False)

    def _keep(self, note: RunNote) -> None:
        self._note = note
        self._keeper.write(note)


def _is_in_use(state: State) -> bool:
    """Return whether somebody may drive, or bolts move."""
    return state.mode is RentalMode.DRIVING or state.pending is not None
