"""A technician at the car: service that is not a rental (I-17, K18).

Service begins by a technician's card with a signed grant, or by command, and only while
nobody has the car. The indicator is blue and nobody can reserve. It ends by the card
that locks, by command, or by itself. The engine stays held: who moves the car rents it.
An update of the car's own program stands in the same place.
"""

from dataclasses import replace
from typing import Final

from gateway.core.moment import Moment
from gateway.core.state import State, Workshop
from gateway.core.turn import Turn
from protocol.codes import RentalMode
from protocol.rental_codes import ServiceModeReason
from protocol.vehicle_event import ServiceModeChanged

CARD_SERVICE_MS: Final = 8 * 3_600 * 1_000
"""Longest service by card: a shift (assumed). A forgotten car comes back by itself."""


def may_begin_service(state: State) -> bool:
    """Return whether nobody has the car, and neither bolts nor program are moving.

    Service that lasts already may: it is made longer by it.
    """
    return (
        state.mode is RentalMode.AVAILABLE
        and state.pending is None
        and not state.updating
    )


def may_begin_update(state: State) -> bool:
    """Return whether nobody has the car, a technician included (I-17).

    Whoever works on a car must not have its agent taken away meanwhile, nor somebody
    whose rental was lost with the ledger.
    """
    somebodys = state.workshop is not None or state.is_lost
    return may_begin_service(state) and not somebodys


def begin_workshop(turn: Turn, reason: ServiceModeReason, until_ms: int) -> None:
    """Begin service, or let it last until another instant; told when it begins."""
    if turn.state.workshop is None:
        turn.record(ServiceModeChanged(on=True, reason=reason))
    turn.change(workshop=Workshop(until_ms))


def end_workshop(turn: Turn, reason: ServiceModeReason) -> None:
    """End service, and tell it; none is nothing."""
    if turn.state.workshop is not None:
        turn.change(workshop=None)
        turn.record(ServiceModeChanged(on=False, reason=reason))


def workshop_after_reboot(workshop: Workshop, last: Moment, now: Moment) -> Workshop:
    """Carry service over a reboot: what was left of it is left, the time off aside.

    The car is back a little late rather than rented out with a technician under it.
    """
    left_ms = max(0, workshop.until_ms - last.boot_ms)
    return replace(workshop, until_ms=now.boot_ms + left_ms)
