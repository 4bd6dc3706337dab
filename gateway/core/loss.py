"""A ledger that was lost, and with it who has the car (FF-LED-32 to FF-LED-36).

The state lay in that ledger. A copy that a damaged file still shows is not taken for
true: it may be an older one, and would let somebody in whose rental is over (I-12). So
the car knows nothing, and says so: fault pattern, no rental by card, no update. Bolts
and engine stay as they are, since whoever drives or loads must not be locked out by a
disk (I-19). Nothing at the car ends this, no restart either; the fleet, which has the
books, does: by a reservation, of the same id if a rental was under way, or by the end
of service, which says that nobody has it.
"""

from gateway.core.actuation import (
    clear_fault,
    close_unrented,
    raise_fault,
    why_not_lock,
)
from gateway.core.driving import restore_engine
from gateway.core.state import Purpose, State
from gateway.core.turn import Turn
from protocol.codes import Code, FaultKind
from protocol.vehicle_event import LedgerReset


def begin_loss(turn: Turn, reset: LedgerReset) -> None:
    """Tell that this ledger began in place of another, and that nobody knows more."""
    turn.record(reset)
    raise_fault(turn, FaultKind.LEDGER_LOST)


def end_loss(turn: Turn) -> None:
    """Take the fleet's word for who has the car; call it only if the ledger was lost.

    A car that stands open, or with its engine released, is closed and held where that
    is safe: whoever is given it back opens it by card and starts it by PIN.
    """
    clear_fault(turn, FaultKind.LEDGER_LOST)
    restore_engine(turn)
    close_unrented(turn)


def why_not_free(state: State, now_ms: int) -> Code | None:
    """Return why it cannot be true that nobody has the car, None when it can.

    A car that is driven or stands open with a door ajar is somebody's, whatever the
    fleet's books say; and one that nobody can look at is not declared free.
    """
    if state.pending is not None:
        return Code.BUSY
    return why_not_lock(state, Purpose.PLAIN_LOCK, now_ms)
