"""What happened in the car, for whoever watches: the emulator, the demo and tests."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.events import Event
from gateway.core.ledger import SealedEntry
from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.core.turn import Decision


@dataclass(frozen=True, slots=True)
class Step:
    """One event and what the car made of it, durable when it is shown."""

    before: State
    """Where the car stood."""
    event: Event
    """What happened; it may hold a PIN, so show its text form and nothing else."""
    decision: Decision
    """The new state, entries and actions."""
    entries: tuple[SealedEntry, ...]
    """The decision's entries as signed frames."""
    now: Moment
    """When."""


Observer = Callable[[Step], None]
"""Is called after the commit and before the actions; must not block or raise."""


def ignore(_step: Step) -> None:
    """Watch nothing."""
