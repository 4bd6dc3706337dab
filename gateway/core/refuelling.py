"""A visit to a fuel station or charger (C17, H2, H5, H13).

The car shows the fuel card's PIN in this mode only. Paying and filling are the
driver's; the car measures what came in, and whether the driver confirmed to have paid.
"""

from dataclasses import replace
from typing import Final

from gateway.core.payment import say_of_card, settle
from gateway.core.prompts import PromptKey
from gateway.core.reading import Reading
from gateway.core.state import PaymentStage, Refuelling
from gateway.core.table import Trigger
from gateway.core.turn import Turn
from protocol.board.message import Plug
from protocol.codes import PaidBy
from protocol.event import FuelPaidByCard, RefuelEnded, RefuelStarted

REFUELLED_PCT: Final = 10
"""Points by which the level must rise to count as refuelled (H5)."""


def begin_refuelling(turn: Turn) -> None:
    """Enter refuel mode; the display then shows the fuel card's PIN."""
    turn.transit(Trigger.REFUEL_CHOSEN)
    reading = turn.state.reading
    before = None if reading is None else reading.energy_pct
    turn.change_rental(
        refuelling=Refuelling(before_pct=before, paid=False), parking_chosen=None
    )
    turn.record(
        RefuelStarted(
            turn.rental_id,
            energy_pct=before,
            odometer_m=None if reading is None else reading.odometer_m,
        )
    )


def confirm_payment(turn: Turn, refuelling: Refuelling) -> None:
    """Record the driver's word that the fuel card paid; once for each visit."""
    if refuelling.paid:
        return
    turn.change_rental(refuelling=replace(refuelling, paid=True))
    turn.record(FuelPaidByCard(turn.rental_id))
    settle(turn, PaymentStage.CARD)
    say_of_card(turn, PromptKey.PAYMENT_NOTED)


def finish_refuelling(turn: Turn, refuelling: Refuelling, trigger: Trigger) -> None:
    """Leave refuel mode and record what came in.

    Args:
        turn: the turn.
        refuelling: the visit.
        trigger: REFUEL_FINISHED, or ENGINE_STARTED when the driver just left.
    """
    reading = turn.state.reading
    after = None if reading is None else reading.energy_pct
    before = refuelling.before_pct
    gain = 0 if before is None or after is None else max(0, after - before)
    turn.transit(trigger)
    turn.record(
        RefuelEnded(
            turn.rental_id,
            before_pct=before,
            after_pct=after,
            paid_by=_paid_by(turn, refuelling),
            refuelled=gain >= REFUELLED_PCT,
        )
    )
    turn.change_rental(
        refuelling=None, refuel_gain_pct=turn.rental.refuel_gain_pct + gain
    )
    settle(turn, PaymentStage.LEFT)


def _paid_by(turn: Turn, refuelling: Refuelling) -> PaidBy:
    payment = turn.rental.payment
    online = refuelling.online and payment is not None
    if online and payment is not None and payment.stage is PaymentStage.PAID:
        return PaidBy.ONLINE
    return PaidBy.FUEL_CARD if refuelling.paid else PaidBy.UNKNOWN


def watch_plug(turn: Turn, reading: Reading) -> None:
    """Note that an electric car was plugged in during its visit (H13)."""
    rental = turn.state.rental
    visit = None if rental is None else rental.refuelling
    if visit is not None and not visit.plugged and reading.plug is Plug.IN:
        turn.change_rental(refuelling=replace(visit, plugged=True))
