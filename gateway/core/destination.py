"""A planned handover: the driver types where the way ends (C31, F14).

At the start of a rental, or at any later stop, the driver chooses it in the menu and
types a destination in own words. That is an offer to hand the car over there: the fleet
hears of the offer and of the words, finds a second driver, and says who it is as with
any other offer (`gateway.core.handover`). The words decide nothing in the car; they
are for people who look for a car, and the fleet's command says where both meet.
"""

from gateway.core.dialogue import is_asked
from gateway.core.events import DestinationEntered
from gateway.core.handover import make_offer, may_offer
from gateway.core.prompts import Form, Prompt, PromptKey
from gateway.core.turn import Turn
from gateway.core.typed_words import can_be_sent, letters_that_fit
from protocol.rental_event import DESTINATION_LIMIT, HandoverPlanned


def begin_plan(turn: Turn) -> None:
    """Ask for the destination, unless no offer can be made."""
    if may_offer(turn.rental):
        turn.change_rental(planning=True)
    else:
        turn.notify(Prompt(PromptKey.NOT_NOW))


def leave_plan(turn: Turn) -> None:
    """Ask for it no more."""
    turn.change_rental(planning=False)


def enter_destination(turn: Turn, event: DestinationEntered) -> None:
    """Take the destination, if it is asked for, and offer the car for it."""
    if not is_asked(turn.state, Form.DESTINATION):
        return
    if not is_destination(event.destination):
        most = letters_that_fit(event.destination, DESTINATION_LIMIT)
        turn.notify(Prompt(PromptKey.DESTINATION_MALFORMED, (most,)))
        return
    leave_plan(turn)
    if not may_offer(turn.rental):  # the fleet named somebody meanwhile
        turn.notify(Prompt(PromptKey.NOT_NOW))
        return
    offer_id = make_offer(turn)
    turn.record(HandoverPlanned(turn.rental_id, offer_id, event.destination))


def is_destination(words: str) -> bool:
    """Return whether these words can be sent: 1 to 96 bytes, no control characters."""
    return bool(words.strip()) and can_be_sent(words, DESTINATION_LIMIT)
