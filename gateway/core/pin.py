"""The customer's PIN before the engine (C11, H6).

The core counts and blocks; the comparison itself is memory-hard, therefore slow, and
happens outside, as an action whose answer comes back as an event. Three wrong entries
block for a minute; the third block is lifted by the fleet only. The count is part of
the state and survives restarts, so that pulling the plug wins no attempts.
"""

from dataclasses import replace
from typing import Final, assert_never

from gateway.core import handover
from gateway.core.actions import CheckPin
from gateway.core.actuation import begin_actuation
from gateway.core.appearance import PIN_ATTEMPTS, PIN_BLOCKS
from gateway.core.dialogue import is_asked
from gateway.core.events import PinChecked, PinEntered, PinVerdict
from gateway.core.handover import check_pin, second_at_wheel
from gateway.core.inspection import finish_inspection
from gateway.core.prompts import Form, Prompt, PromptKey
from gateway.core.state import PinGuard, Purpose
from gateway.core.turn import Turn
from protocol.codes import AccessMeans
from protocol.event import PinAccepted, PinBlocked
from protocol.sealing import PIN_LENGTHS

PIN_BLOCK_MS: Final = 60_000
"""Length of a block (H6)."""


def enter_pin(turn: Turn, event: PinEntered) -> None:
    """Have a typed PIN compared, if one is asked for now.

    What cannot be a PIN, letters for instance, is refused and costs no attempt: it says
    nothing about knowing the PIN.
    """
    second = second_at_wheel(turn.state)
    if second is None and not _asked_for(turn):
        return
    pin = event.pin
    if len(pin) not in PIN_LENGTHS or not (pin.isascii() and pin.isdigit()):
        bounds = (PIN_LENGTHS.start, PIN_LENGTHS.stop - 1)
        turn.notify(Prompt(PromptKey.PIN_MALFORMED, bounds))
        return
    if second is not None:
        check_pin(turn, second, pin)
        return
    reservation = turn.rental.reservation
    turn.act(CheckPin(reservation.rental_id, reservation.sealed, pin))


def _asked_for(turn: Turn) -> bool:
    if turn.state.pending is not None or not is_asked(turn.state, Form.PIN):
        return False
    guard = turn.rental.pin
    blocked = guard.blocked_until_ms is not None or guard.blocks >= PIN_BLOCKS
    return not (blocked or turn.rental.held or turn.rental.pin_accepted)


def take_verdict(turn: Turn, event: PinChecked) -> None:
    """Release the engine, or count a wrong entry.

    A verdict that is no longer asked for, because the rental ended or the engine was
    released meanwhile, changes nothing.
    """
    second = second_at_wheel(turn.state)
    if second is not None and second.offer_id == event.rental_id:
        handover.take_verdict(turn, second, event.verdict)
        return
    if not _asked_for(turn) or event.rental_id != turn.rental_id:
        return
    match event.verdict:
        case PinVerdict.RIGHT:
            turn.hush()
            turn.change_rental(pin=PinGuard(), pin_accepted=True)
            finish_inspection(turn)
            turn.record(PinAccepted(turn.rental_id))
            begin_actuation(
                turn,
                Purpose.RELEASE,
                means=AccessMeans.CARD,
                authority=bytes(32),
                request=None,
            )
        case PinVerdict.WRONG:
            _count_wrong(turn)
        case PinVerdict.UNREADABLE:
            # The reservation carried no verifier, or one for another car: no entry can
            # be right, so the fleet must release the engine.
            turn.notify(Prompt(PromptKey.PIN_BLOCKED_FOR_GOOD))
        case _:
            assert_never(event.verdict)


def _count_wrong(turn: Turn) -> None:
    guard = turn.rental.pin
    wrong = guard.wrong + 1
    if wrong < PIN_ATTEMPTS:
        turn.change_rental(pin=replace(guard, wrong=wrong))
        turn.notify(Prompt(PromptKey.PIN_WRONG, (PIN_ATTEMPTS - wrong,)))
        return
    blocks = guard.blocks + 1
    for_good = blocks >= PIN_BLOCKS
    until_ms = None if for_good else turn.now.boot_ms + PIN_BLOCK_MS
    turn.hush()
    turn.change_rental(pin=PinGuard(0, blocks, until_ms))
    turn.record(PinBlocked(turn.rental_id, blocks))
    if turn.rental.parking_chosen is not None:
        # What was chosen keeps the display; that no PIN counts now is said in passing.
        key = PromptKey.PIN_BLOCKED_FOR_GOOD if for_good else PromptKey.PIN_BLOCKED
        turn.notify(Prompt(key))


def lift_block(turn: Turn) -> None:
    """Open PIN entry again, since the minute is over."""
    turn.change_rental(pin=replace(turn.rental.pin, blocked_until_ms=None))
