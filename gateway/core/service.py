"""Service mode: the disk takes nothing, so nothing new begins (reliability.md L13).

What runs may end: its customer stands at the car. What is decided meanwhile is held in
memory by the shell, told to nobody as done, and lost if the power goes before the disk
takes it. That is why no rental begins, no remote command opens, and the light never
turns green.
"""

from typing import Final

from gateway.core.actuation import clear_fault, raise_fault
from gateway.core.repertoire import KnownCommand
from gateway.core.state import State
from gateway.core.turn import Turn
from protocol import command as orders
from protocol.codes import FaultKind
from protocol.rental_codes import ServiceModeReason
from protocol.vehicle_event import ServiceModeChanged

_MAY_RUN: Final = (
    orders.Lock,
    orders.EngineHold,
    orders.CancelReservation,
    orders.FlashHazards,
    orders.Ping,
    orders.RequestSnapshot,
    orders.Explain,
    orders.ShowMessage,
)
"""Commands that close, hold or only ask: done twice they do no harm, and only the
journal on the disk could tell that they were done before (I-5)."""


def is_in_service(state: State) -> bool:
    """Return whether service mode is on."""
    return FaultKind.STORAGE_FAILED in state.faults


def is_barred(state: State, command: KnownCommand) -> bool:
    """Return whether service mode forbids a command."""
    return is_in_service(state) and not isinstance(command, _MAY_RUN)


def enter_service(turn: Turn) -> None:
    """Begin service mode, and tell it once."""
    if not is_in_service(turn.state):
        raise_fault(turn, FaultKind.STORAGE_FAILED)
        turn.record(ServiceModeChanged(on=True, reason=ServiceModeReason.STORAGE))


def leave_service(turn: Turn) -> None:
    """End service mode, and tell it once."""
    if is_in_service(turn.state):
        clear_fault(turn, FaultKind.STORAGE_FAILED)
        turn.record(ServiceModeChanged(on=False, reason=ServiceModeReason.STORAGE))
