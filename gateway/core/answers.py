"""What follows from a driver's choice at the display (C16, C17, C24).

A choice counts only while the standing screen offers it and no actuation is under way;
out of place it changes nothing. Each has one handler, which decides whether the car's
state allows it. Forms are answered by events of their own, each with its own file.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway.core import destination, handover, inspection, payment, refuelling
from gateway.core.dialogue import is_offered
from gateway.core.prompts import Choice, Prompt, PromptKey
from gateway.core.table import Trigger
from gateway.core.turn import Turn


def choose(turn: Turn, choice: Choice) -> None:
    """Take the driver's choice."""
    if turn.state.pending is None and is_offered(turn.state, choice):
        _ANSWERS[choice](turn)


def _park(turn: Turn) -> None:
    turn.change_rental(parking_chosen=True)


def _end(turn: Turn) -> None:
    turn.change_rental(parking_chosen=False)


def _refuel(turn: Turn) -> None:
    # A card alone, which may be copied, must not bring up a payment PIN (H6).
    if turn.rental.pin_accepted:
        refuelling.begin_refuelling(turn)
    else:
        turn.notify(Prompt(PromptKey.PIN_FIRST))


def _paid_by_card(turn: Turn) -> None:
    refuelling.confirm_payment(turn, turn.visit)


def _refuel_done(turn: Turn) -> None:
    refuelling.finish_refuelling(turn, turn.visit, Trigger.REFUEL_FINISHED)


def _back(turn: Turn) -> None:
    """Leave the form that stands."""
    visit = turn.rental.refuelling
    if visit is not None:
        turn.change_rental(refuelling=replace(visit, asks_pump=False))
    elif turn.rental.planning:
        destination.leave_plan(turn)
    else:
        inspection.leave_report(turn)


_ANSWERS: Final[Mapping[Choice, Callable[[Turn], None]]] = MappingProxyType(
    {
        Choice.PARK: _park,
        Choice.END: _end,
        Choice.REFUEL: _refuel,
        Choice.PAID_BY_CARD: _paid_by_card,
        Choice.REFUEL_DONE: _refuel_done,
        Choice.PAY_ONLINE: payment.pay_online,
        Choice.CONTINUE: inspection.go_on,
        Choice.REPORT_DAMAGE: inspection.begin_report,
        Choice.BACK: _back,
        Choice.OFFER_HANDOVER: handover.offer,
        Choice.PLAN_HANDOVER: destination.begin_plan,
        Choice.ACCEPT_HANDOVER: handover.accept,
        Choice.DECLINE_HANDOVER: handover.decline,
    }
)
"""Every choice's handler."""
