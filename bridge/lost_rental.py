"""A car that lost its ledger asks who has it; no answer goes against the books.

The car takes the fleet's word whatever it is (FF-LED-33). A fleet service that answers
by habit, with the next booking or by calling every car back from service, would give
away a car in which somebody sits. So the bridge holds the word against the rentals that
were open in the lost ledger: each goes on under its id, or a person closes it first.
"""

from typing import Final

from bridge.errors import OrderRefusedError, Refusal
from bridge.greeting import ALERT_OF_FLAG
from bridge.orders import Order, opcode_of
from bridge.rows.rentals import find_lost_rentals
from bridge.store import Store
from bridge.vehicle import VehicleState
from protocol.codes import FaultKind, HelloFlags, Opcode
from protocol.identity import VehicleId
from protocol.rental_codes import ServiceRequest

_LOST: Final = FaultKind.LEDGER_LOST.name.lower()
_WAS_RESET: Final = ALERT_OF_FLAG[HelloFlags.LEDGER_WAS_RESET][0]
"""The hello tells it before the first entry of the new ledger does."""


async def require_books_clear(
    store: Store, vehicle_id: VehicleId, vehicle: VehicleState, order: Order
) -> None:
    """Return unless the order says of a lost rental what the books do not (FF-LED-37).

    Raises:
        OrderRefusedError: another rental was open in the ledger that the car lost.
        StoreError: nothing is known.
    """
    if _LOST not in vehicle.faults and _WAS_RESET not in vehicle.alerts:
        return
    if not _says_who_has_it(order):
        return
    rental_id: bytes = getattr(order, "rental_id", b"")
    lost = await store.read(lambda c: find_lost_rentals(c, vehicle_id))
    others = [other.hex() for other in lost if other != rental_id]
    if others:
        raise OrderRefusedError(
            Refusal.RENTAL_OPEN,
            f"rental {others[0]} was open when the vehicle lost its ledger: reserve "
            "the vehicle under that id, or end it in your books and close it "
            f"(POST /v1/rentals/{others[0]}/close), then order again",
        )


def _says_who_has_it(order: Order) -> bool:
    """Return whether a car takes the order for an answer."""
    opcode = opcode_of(order)
    is_off = getattr(order, "request", None) is ServiceRequest.OFF
    return opcode is Opcode.RESERVE or (opcode is Opcode.SERVICE and is_off)
