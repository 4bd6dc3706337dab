"""What a start begins with where the ledger of before is not there to go on from."""

from typing import Final

from gateway.core.ledger import LedgerHead
from gateway.core.state import State
from gateway.ports import Origin, Stored
from protocol.codes import FaultKind
from protocol.entry import GENESIS, LEDGER_ID_SIZE
from protocol.rental_codes import ResetReason
from protocol.vehicle_event import LedgerReset

UNREADABLE: Final = Stored(
    state=State(faults=frozenset({FaultKind.LEDGER_LOST})),
    head=LedgerHead(bytes(LEDGER_ID_SIZE), 0, GENESIS),
    receipted=0,
    boot_counter=0,
    same_boot=False,
    journal=(),
)
"""What stands when nothing can be read: a car of which nothing is known. It never
reaches a disk: one that can be read again has its own ledger, and is started with."""


def reset_of(origin: Origin) -> LedgerReset:
    """Return the entry that tells that a ledger took another's place (FF-LED-09)."""
    previous = origin.previous
    return LedgerReset(
        previous_ledger_id=previous.ledger_id,
        previous_head_seq=previous.seq,
        previous_head_hash=previous.hash,
        reason=ResetReason(origin.reason),
    )
