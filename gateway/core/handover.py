"""Handing a rented car to the next driver: planned, offered, asked for (H11).

Three ways lead to it (C31 to C33, F14 to F16). Planned: the first driver has offered
the car for the end of the way, at the display (`gateway.core.destination`) or in the
app, and the fleet tells who comes and where to meet (HANDOVER_OFFER). By the driver:
who still looks for a parking space offers the car at the display, and the fleet looks
for somebody. By who searches: the fleet asks the driver (HANDOVER_REQUEST), who accepts
or declines. In the end all three are the same: the fleet has told the car the second
driver's cards and sealed secrets.

The second driver's card, or app, and PIN count together, with the car standing and the
engine off. At that instant the first rental ends with its report and the second begins;
until then the first driver is liable, and nothing of the car has changed. The id of the
offer is the id of the second rental: the cards are digests under it, the secrets are
sealed to it. What the second driver speaks and what locking shall mean comes as for any
rental that a card begins: in a GRANT for that id, which is spent with the handover.
"""

import hashlib
from dataclasses import replace
from typing import Final, assert_never

from gateway.core.actions import CheckPin
from gateway.core.actuation import begin_actuation, why_not_hold
from gateway.core.appearance import PIN_ATTEMPTS
from gateway.core.dialogue import terms_of
from gateway.core.events import PinVerdict
from gateway.core.grants import spend_grants
from gateway.core.prompts import Prompt, PromptKey
from gateway.core.rental import begin, end
from gateway.core.service import is_in_service
from gateway.core.state import (
    Handover,
    HandoverStage,
    Purpose,
    Rental,
    Reservation,
    SearchRequest,
    State,
)
from gateway.core.table import Trigger
from gateway.core.turn import Turn
from protocol.codes import AccessMeans, Code, EndReason, RentalMode
from protocol.event import AccessGranted, PinAccepted, PinBlocked
from protocol.identity import ID_SIZE, card_digest
from protocol.rental_command import HandoverOffer, HandoverRequest
from protocol.rental_event import HandoverAccepted, HandoverDone, HandoverOffered
from protocol.snapshot import NO_RENTAL

PIN_MS: Final = 120_000
"""From the second driver's card to the PIN: time to change seats (assumed)."""

OFFERS_LIMIT: Final = 16
"""Offers of one rental at the display, so that nobody fills the disk (I-20)."""

_AUTHORITY_SIZE: Final = 32

_RUNS: Final = frozenset({Code.IGNITION_ON, Code.VEHICLE_MOVING})


def offer_id_of(rental_id: bytes, number: int) -> bytes:
    """Return the id of an offer that a driver makes at the display.

    Args:
        rental_id: 16 random bytes of the fleet's.
        number: 1 for the first offer of that rental.
    """
    name = b"freefloat handover" + rental_id + number.to_bytes(2, "big")
    return hashlib.sha256(name).digest()[:ID_SIZE]


def offer(turn: Turn) -> None:
    """Offer the car to whoever searches near (C32)."""
    if turn.state.rental is None:
        return
    if may_offer(turn.rental):
        make_offer(turn)
    else:
        turn.notify(Prompt(PromptKey.NOT_NOW))


def may_offer(rental: Rental) -> bool:
    """Return whether the driver can offer the car: promised to nobody, not too often.

    Nor one whose engine the fleet holds, which is handed over to nobody. The fleet may
    name somebody at any time.
    """
    promised = rental.handover is not None or rental.held
    return rental.offers < OFFERS_LIMIT and not promised


def make_offer(turn: Turn) -> bytes:
    """Tell the fleet of one more offer, which `may_offer` allows; return its id."""
    number = turn.rental.offers + 1
    offer_id = offer_id_of(turn.rental_id, number)
    turn.change_rental(offers=number)
    turn.record(HandoverOffered(turn.rental_id, offer_id))
    turn.notify(Prompt(PromptKey.HANDOVER_OFFERED))
    return offer_id


def take_offer(turn: Turn, command: HandoverOffer) -> Code:
    """Learn who the second driver is; the newest word of the fleet counts (C31)."""
    rental = turn.state.rental
    if rental is None:
        return Code.WRONG_MODE
    if command.until_ms <= turn.now.boot_ms:
        return Code.EXPIRED
    if command.offer_id in {NO_RENTAL, turn.rental_id}:
        return Code.BAD_PARAM
    numbers = range(1, rental.offers + 1)
    own = {offer_id_of(turn.rental_id, number) for number in numbers}
    before = rental.handover
    told = Handover(
        command.offer_id,
        command.until_ms,
        command.latitude_e7,
        command.longitude_e7,
        command.cards,
        command.sealed,
    )
    known = before is not None and before.offer_id == command.offer_id
    if before is not None and known:
        told = _still_asking(before, told)
    turn.change_rental(handover=told)
    if not known and command.offer_id not in own:
        turn.record(HandoverOffered(turn.rental_id, command.offer_id))
    turn.notify(Prompt(PromptKey.HANDOVER_AGREED))
    return Code.OK


def _still_asking(before: Handover, told: Handover) -> Handover:
    """Return the same offer told anew: a PIN that is asked for stays asked for.

    Wrong PINs are not forgiven by it (H6). Other cards or secrets begin with a card.
    """
    told = replace(told, wrong=before.wrong)
    if (told.cards, told.sealed) != (before.cards, before.sealed):
        return told
    return replace(
        told,
        asks_pin_until_ms=before.asks_pin_until_ms,
        means=before.means,
        authority=before.authority,
    )


def take_request(turn: Turn, command: HandoverRequest) -> Code:
    """Ask the driver about somebody near who searches (C33)."""
    if turn.state.rental is None:
        return Code.WRONG_MODE
    if command.until_ms <= turn.now.boot_ms:
        return Code.EXPIRED
    turn.change_rental(
        search=SearchRequest(
            command.request_id, command.until_ms, command.distance_m, command.name
        )
    )
    return Code.OK


def accept(turn: Turn) -> None:
    """Accept who searches; the fleet then tells who it is."""
    search = turn.rental.search
    if search is None:
        raise LookupError("nobody asks, and so nothing offers to accept")
    turn.change_rental(search=None)
    turn.record(HandoverAccepted(turn.rental_id, search.request_id))
    turn.notify(Prompt(PromptKey.HANDOVER_ACCEPTED))


def decline(turn: Turn) -> None:
    """Decline who searches, or send the second driver away."""
    if turn.rental.search is not None:
        turn.change_rental(search=None)
    else:
        turn.change_rental(handover=None)


def present_second_card(turn: Turn, uid: bytes) -> bool:
    """Take the second driver's card; return whether it was one."""
    handover = _handover(turn.state)
    if handover is None:
        return False
    digest = card_digest(handover.offer_id, uid)
    if digest not in handover.cards:
        return False
    code = why_not_authorise(turn)
    if code is None:
        authority = digest.ljust(_AUTHORITY_SIZE, b"\0")
        authorise(turn, handover, AccessMeans.CARD, digest, authority)
    else:
        turn.blink_refusal()
        is_driving = turn.state.mode is RentalMode.DRIVING or code in _RUNS
        turn.notify(Prompt(PromptKey.SWITCH_OFF if is_driving else PromptKey.NOT_NOW))
    return True


def why_not_authorise(turn: Turn) -> Code | None:
    """Return why the car is not handed over now, None when it may be (H11)."""
    if turn.state.mode is not RentalMode.STOPPED or turn.rental.held:
        return Code.WRONG_MODE
    if turn.state.pending is not None:
        return Code.BUSY
    if is_in_service(turn.state):
        return Code.STORAGE_CORRUPT  # nothing new begins while the disk takes nothing
    if not turn.state.room.takes_rental:
        return Code.STORAGE_FULL  # the second rental is a new one (I-20)
    return why_not_hold(turn.state, turn.now.boot_ms)


def authorise(
    turn: Turn,
    handover: Handover,
    means: AccessMeans,
    reference: bytes,
    authority: bytes,
) -> None:
    """Let the second driver enter a PIN.

    Args:
        turn: `why_not_authorise` allows it.
        handover: the one that stands.
        means: card or command.
        reference: 16 bytes, of card or command.
        authority: 32 bytes, for the first rental's report.
    """
    turn.change_rental(
        handover=replace(
            handover,
            asks_pin_until_ms=turn.now.boot_ms + PIN_MS,
            means=means,
            authority=authority,
        )
    )
    turn.record(AccessGranted(handover.offer_id, means, reference))


def named_by(state: State, rental_id: bytes) -> Handover | None:
    """Return the handover that would begin this rental, None for none."""
    handover = _handover(state)
    is_it = handover is not None and handover.offer_id == rental_id
    return handover if is_it else None


def second_at_wheel(state: State) -> Handover | None:
    """Return the handover whose PIN is asked for now, None for none."""
    handover = _handover(state)
    if handover is None or handover.stage is not HandoverStage.AT_WHEEL:
        return None
    return handover if state.mode is RentalMode.STOPPED else None


def check_pin(turn: Turn, handover: Handover, pin: str) -> None:
    """Have the second driver's PIN compared."""
    turn.act(CheckPin(handover.offer_id, handover.sealed, pin))


def take_verdict(turn: Turn, handover: Handover, verdict: PinVerdict) -> None:
    """Hand the car over, or count a wrong PIN; the third ends the handover."""
    match verdict:
        case PinVerdict.RIGHT if why_not_authorise(turn) is None:
            _hand_over(turn, handover)
        case PinVerdict.RIGHT:
            turn.notify(Prompt(PromptKey.NOT_NOW))
        case PinVerdict.WRONG if handover.wrong + 1 < PIN_ATTEMPTS:
            wrong = handover.wrong + 1
            turn.change_rental(handover=replace(handover, wrong=wrong))
            turn.notify(Prompt(PromptKey.PIN_WRONG, (PIN_ATTEMPTS - wrong,)))
        case PinVerdict.WRONG | PinVerdict.UNREADABLE:
            if verdict is PinVerdict.WRONG:
                turn.record(PinBlocked(handover.offer_id, 1))
            turn.change_rental(handover=None)
            turn.notify(Prompt(PromptKey.HANDOVER_OVER))
        case _:
            assert_never(verdict)


def _hand_over(turn: Turn, handover: Handover) -> None:
    """End one rental and begin the next at this instant (H11)."""
    first_id = turn.rental_id
    lock_default, language = terms_of(turn.state, handover.offer_id)
    turn.transit(Trigger.HANDED_OVER)
    turn.record(HandoverDone(first_id, handover.offer_id))
    end(turn, EndReason.HANDOVER, handover.authority)
    second = Reservation(
        rental_id=handover.offer_id,
        until_ms=turn.now.boot_ms,
        lock_default=lock_default,
        language=language,
        cards=handover.cards,
        sealed=handover.sealed,
    )
    begin(turn, second, handover.means)
    spend_grants(turn, handover.offer_id)
    turn.hush()
    turn.record(PinAccepted(turn.rental_id))
    turn.change_rental(pin_accepted=True)
    begin_actuation(
        turn,
        Purpose.RELEASE,
        means=handover.means,
        authority=handover.authority,
        request=None,
    )


def next_due_ms(state: State) -> int | None:
    """Return when something of a handover is over by itself, None for never."""
    if state.rental is None:
        return None
    handover, search = state.rental.handover, state.rental.search
    due = (
        None if handover is None else handover.until_ms,
        None if handover is None else handover.asks_pin_until_ms,
        None if search is None else search.until_ms,
    )
    return min((at_ms for at_ms in due if at_ms is not None), default=None)


def pass_time(turn: Turn) -> None:
    """Let go of what is over."""
    now_ms = turn.now.boot_ms
    handover, search = turn.rental.handover, turn.rental.search
    if search is not None and search.until_ms <= now_ms:
        turn.change_rental(search=None)
    if handover is None:
        return
    asks_ms = handover.asks_pin_until_ms
    if handover.until_ms <= now_ms:
        turn.change_rental(handover=None)
    elif asks_ms is not None and asks_ms <= now_ms:
        turn.change_rental(handover=replace(handover, asks_pin_until_ms=None))


def _handover(state: State) -> Handover | None:
    return None if state.rental is None else state.rental.handover
