"""What may wait unsigned for a car that is offline."""

from typing import Final

from bridge.errors import OrderRefusedError, Refusal
from bridge.orders import Order, opcode_of
from protocol.codes import Opcode

DEFERRABLE: Final = frozenset(
    {Opcode.LOCK, Opcode.ENGINE_HOLD, Opcode.CANCEL_RESERVATION}
)
"""What may wait for a car: it opens nothing. A car that unlocks when its signal
returns, long after somebody asked, is a danger (protocol-design.md 7)."""


def require_deferrable(order: Order) -> None:
    """Refuse to let an order wait that may not.

    Raises:
        OrderRefusedError: it opens or starts a car, or is of no use later.
    """
    if opcode_of(order) not in DEFERRABLE:
        raise OrderRefusedError(
            Refusal.BAD_VALUE,
            "only lock, engine_hold and cancel may wait for the vehicle: what opens or "
            "starts a car must not happen when nobody expects it",
            field="defer_s",
        )
