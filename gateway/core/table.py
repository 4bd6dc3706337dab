"""The transitions of the rental axis: one table that a person can read.

Rules:

1. The mode of a car changes here and nowhere else. Whatever wants to change it names a
   trigger; a trigger that the present mode's row does not hold is illegal, changes
   nothing and is reported.
2. Triggers are what *has become true*, not what somebody wants. Doors have been opened
   when the board read the bolts back open, not when a card was held to the reader.
   Wishes that wait for a read-back are `gateway.core.state.Pending`.
3. This file does not know why a trigger was allowed; rights are decided in `access` and
   `orders` before.

Theory of operation. A car is AVAILABLE until the fleet reserves it, or until a card
with a stored grant is held to it, which reserves it for that card at once (H14). A
RESERVED car goes back by itself when nobody comes (H1). The first opening starts the
rental: STOPPED is "rented, engine off", DRIVING is "rented, engine running". From
STOPPED the customer can lock to park (PARKED, C24), lock to end (AVAILABLE, C26) or
refuel (REFUELLING, C17). Driving off ends a visit to the station by itself, since a
customer who forgot to press "done" must not be held up. A parked rental can be ended
without opening the car again.

The technical axis (`protocol.codes.Condition`) is a table of its own
(`gateway.core.appearance.CONDITIONS`) and computed from what is so: a dead reader makes
a car degraded, it does not end a rental. Service and update begin only while nobody has
the car, and nobody gets it meanwhile (I-17).
"""

from collections.abc import Mapping
from enum import Enum, unique
from types import MappingProxyType
from typing import Final

from protocol.codes import RentalMode


@unique
class Trigger(Enum):
    """What has become true."""

    RESERVED_BY_FLEET = "the fleet reserved the car"
    GRANT_PRESENTED = "a card with a grant was held to the reader"
    RESERVATION_EXPIRED = "nobody came in time"
    RESERVATION_CANCELLED = "the fleet took the reservation back"
    DOORS_OPENED = "the bolts were read back open for the customer"
    ENGINE_STARTED = "the engine runs"
    ENGINE_STOPPED = "the engine is off"
    LOCKED_TO_PARK = "the bolts were read back closed, to park"
    LOCKED_TO_END = "the bolts were read back closed, to end"
    REFUEL_CHOSEN = "the driver chose to refuel"
    REFUEL_FINISHED = "the driver has refuelled"
    HANDED_OVER = "the second driver's card or app and PIN were right"


def _row(*cells: tuple[Trigger, RentalMode]) -> Mapping[Trigger, RentalMode]:
    return MappingProxyType(dict(cells))


TABLE: Final[Mapping[RentalMode, Mapping[Trigger, RentalMode]]] = MappingProxyType(
    {
        RentalMode.AVAILABLE: _row(
            (Trigger.RESERVED_BY_FLEET, RentalMode.RESERVED),
            (Trigger.GRANT_PRESENTED, RentalMode.RESERVED),
        ),
        RentalMode.RESERVED: _row(
            (Trigger.RESERVATION_EXPIRED, RentalMode.AVAILABLE),
            (Trigger.RESERVATION_CANCELLED, RentalMode.AVAILABLE),
            (Trigger.DOORS_OPENED, RentalMode.STOPPED),
        ),
        RentalMode.STOPPED: _row(
            (Trigger.ENGINE_STARTED, RentalMode.DRIVING),
            (Trigger.LOCKED_TO_PARK, RentalMode.PARKED),
            (Trigger.LOCKED_TO_END, RentalMode.AVAILABLE),
            (Trigger.REFUEL_CHOSEN, RentalMode.REFUELLING),
            (Trigger.HANDED_OVER, RentalMode.STOPPED),
        ),
        RentalMode.DRIVING: _row(
            (Trigger.ENGINE_STOPPED, RentalMode.STOPPED),
        ),
        RentalMode.PARKED: _row(
            (Trigger.DOORS_OPENED, RentalMode.STOPPED),
            (Trigger.LOCKED_TO_END, RentalMode.AVAILABLE),
        ),
        RentalMode.REFUELLING: _row(
            (Trigger.REFUEL_FINISHED, RentalMode.STOPPED),
            (Trigger.ENGINE_STARTED, RentalMode.DRIVING),
        ),
    }
)
"""Mode, trigger, next mode; what is not here cannot happen."""


class IllegalTransitionError(Exception):
    """A trigger that the present mode's row does not hold; nothing changed."""

    retryable = False
    may_have_taken_effect = False

    def __init__(self, mode: RentalMode, trigger: Trigger) -> None:
        """Name mode and trigger."""
        super().__init__(f"{mode.name} has no transition for {trigger.name}")
        self.mode = mode
        self.trigger = trigger


def next_mode(mode: RentalMode, trigger: Trigger) -> RentalMode:
    """Return the mode after a trigger.

    Raises:
        IllegalTransitionError: the table has no such cell.
    """
    try:
        return TABLE[mode][trigger]
    except KeyError:
        raise IllegalTransitionError(mode, trigger) from None
