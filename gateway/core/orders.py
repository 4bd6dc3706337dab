"""What the fleet orders, and whether the car's state allows it.

Steps 11 and 12 of the acceptance pipeline (protocol-design.md 1.2): signature, session,
expiry and order in the lane have been checked before a command comes here. A refusal
here consumes nothing; an accepted command is journalled in the same commit as what it
causes, and answered exactly once (I-5, I-10).
"""

from typing import Final, assert_never

from gateway.core import handover, payment
from gateway.core.access import lock_purpose, open_for_walk_up
from gateway.core.actions import FlashHazards
from gateway.core.actuation import (
    begin_actuation,
    close_unrented,
    why_not_hold,
    why_not_lock,
)
from gateway.core.appearance import may_be_reserved
from gateway.core.events import CommandReceived
from gateway.core.grants import change_grants, why_not_change
from gateway.core.incident import restart, why_not_restart
from gateway.core.key_rotation import UNPROVED
from gateway.core.loss import end_loss, why_not_free
from gateway.core.messages import show_message
from gateway.core.refuelling import begin_refuelling, finish_refuelling
from gateway.core.repertoire import KnownCommand, UnknownCommand
from gateway.core.service import is_barred
from gateway.core.state import (
    Handover,
    PaymentStage,
    PinGuard,
    Purpose,
    Request,
    Reservation,
)
from gateway.core.table import Trigger
from gateway.core.turn import Turn
from gateway.core.workshop import begin_workshop, end_workshop, may_begin_service
from protocol import command as orders
from protocol.codes import (
    AccessMeans,
    Code,
    Executed,
    LockDefault,
    LockMode,
    ModeRequest,
    RentalMode,
)
from protocol.event import (
    AccessGranted,
    ReservationCancelled,
    ReservationStarted,
)
from protocol.rental_codes import ServiceModeReason, ServiceRequest
from protocol.rental_command import (
    Grant,
    HandoverOffer,
    HandoverRequest,
    PaymentDecision,
    Service,
    SetDefaultMode,
)
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import KeyRotated

_CLOSING: Final = {LockMode.PARK: Purpose.PARK, LockMode.END: Purpose.END}


_FOR_NO_RENTAL: Final = (orders.Ping, orders.Reserve, orders.RotateKey, Grant)
"""Commands that name no rental, or one that is not the car's yet."""


_FOR_OPERATORS: Final = (
    orders.FlashHazards,
    orders.Restart,
    orders.Reboot,
    orders.RequestSnapshot,
    orders.Explain,
    orders.ShowMessage,
    Service,
)
"""Commands that may name no rental: an operator's."""


class Refusal(Exception):  # noqa: N818 - an answer to the sender, not an error
    """The car's state does not allow the command; nothing changed."""

    def __init__(self, code: Code) -> None:
        """Keep the code of the answer."""
        super().__init__(code.name)
        self.code = code


def obey(turn: Turn, event: CommandReceived) -> None:
    """Carry out a command, or refuse it whole."""
    request = Request(event.msg_id, event.request_hash)
    before = turn.state
    try:
        command = _require_known(event.command)
        _require_fitting(turn, command)
        _carry_out(turn, event, command, request)
    except Refusal as refusal:
        turn.state = before
        turn.refuse(request, refusal.code, Executed.NO)


def _require_known(command: orders.Command) -> KnownCommand:
    """Refuse what this car does not carry out (FF-CMD-03)."""
    if isinstance(command, UnknownCommand):
        raise Refusal(Code.UNKNOWN_OPCODE)
    return command


def _require_fitting(turn: Turn, command: KnownCommand) -> None:
    """Refuse what was meant for another rental or another state."""
    if is_barred(turn.state, command):
        raise Refusal(Code.STORAGE_CORRUPT)
    held = turn.state.rental_id
    if isinstance(command, _FOR_NO_RENTAL):
        pass
    elif isinstance(command, _FOR_OPERATORS):
        if command.rental_id not in {NO_RENTAL, held}:
            raise Refusal(Code.WRONG_RENTAL)
    elif (isinstance(command, orders.CancelReservation) and held is None) or (
        isinstance(command, orders.Unlock)
        and handover.named_by(turn.state, command.rental_id) is not None
    ):
        pass
    elif command.rental_id != held:
        raise Refusal(Code.WRONG_RENTAL)
    expected = command.expected_version
    if expected not in {orders.ANY_VERSION, turn.state.version}:
        raise Refusal(Code.STATE_VERSION)


def _carry_out(  # noqa: C901, PLR0912 - one branch for each opcode
    turn: Turn, event: CommandReceived, command: KnownCommand, request: Request
) -> None:
    match command:
        case orders.Ping():
            _done(turn, event, request, Code.OK)
        case orders.RequestSnapshot() | orders.Explain():
            _done(turn, event, request, Code.OK)
        case orders.ShowMessage():
            _answer(turn, event, request, show_message(turn, command))
        case orders.Restart() | orders.Reboot():
            _restart(turn, event, request, command)
        case orders.RotateKey():
            _rotate_key(turn, event, request)
        case orders.FlashHazards(seconds=seconds):
            code = why_not_hold(turn.state, turn.now.boot_ms)
            if code is not None:
                raise Refusal(code)
            turn.act(FlashHazards(seconds))
            _done(turn, event, request, Code.OK)
        case orders.Reserve():
            _reserve(turn, event, request, command)
        case orders.CancelReservation():
            _cancel(turn, event, request, command)
        case orders.SetMode():
            _set_mode(turn, event, request, command.request)
        case SetDefaultMode(lock_default=lock_default):
            _set_default(turn, event, request, lock_default)
        case PaymentDecision():
            _decide_payment(turn, event, request, command)
        case Grant():
            _change_grants(turn, event, request, command)
        case Service():
            _set_service(turn, event, request, command)
        case HandoverOffer():
            _answer(turn, event, request, handover.take_offer(turn, command))
        case HandoverRequest():
            _answer(turn, event, request, handover.take_request(turn, command))
        case orders.Unlock():
            second = handover.named_by(turn.state, command.rental_id)
            if second is None:
                _unlock(turn, event, request)
            else:
                _let_second_in(turn, event, request, second)
        case orders.Lock():
            _lock(turn, event, request, command.lock_mode)
        case orders.EngineRelease():
            _release(turn, event, request)
        case orders.EngineHold():
            _hold(turn, event, request)
        case _:
            assert_never(command)


def _done(turn: Turn, event: CommandReceived, request: Request, code: Code) -> None:
    turn.accepted = event
    executed = Executed.NO if code is Code.ALREADY_IN_STATE else Executed.YES
    turn.answer(request, code, executed)


def _rotate_key(turn: Turn, event: CommandReceived, request: Request) -> None:
    """Name the key that the shell has made; sealing the entry proves it."""
    if not event.new_key:
        raise Refusal(Code.INTERNAL)
    turn.record(KeyRotated(event.new_key, UNPROVED))
    _done(turn, event, request, Code.OK)


def _answer(turn: Turn, event: CommandReceived, request: Request, code: Code) -> None:
    """Accept with a code of success, or refuse."""
    if not code.succeeded:
        raise Refusal(code)
    _done(turn, event, request, code)


def _let_second_in(
    turn: Turn, event: CommandReceived, request: Request, second: Handover
) -> None:
    """Let the second driver's app stand for the card (H11)."""
    code = handover.why_not_authorise(turn)
    if code is not None:
        raise Refusal(code)
    handover.authorise(
        turn, second, AccessMeans.COMMAND, event.msg_id, event.request_hash
    )
    _done(turn, event, request, Code.OK)


def _restart(
    turn: Turn,
    event: CommandReceived,
    request: Request,
    command: orders.Restart | orders.Reboot,
) -> None:
    code = why_not_restart(turn, command)
    if code is not None:
        raise Refusal(code)
    restart(turn, command)
    _done(turn, event, request, Code.OK)


def _reserve(
    turn: Turn, event: CommandReceived, request: Request, command: orders.Reserve
) -> None:
    if command.rental_id == turn.state.rental_id:
        _done(turn, event, request, Code.ALREADY_IN_STATE)
        return
    if not turn.state.room.takes_rental:
        raise Refusal(Code.STORAGE_FULL)
    taken = turn.state.workshop is not None or turn.state.updating
    if turn.state.mode is not RentalMode.AVAILABLE or taken:
        raise Refusal(Code.WRONG_MODE)
    if turn.state.pending is not None:
        raise Refusal(Code.BUSY)
    if not may_be_reserved(turn.state):
        raise Refusal(Code.BUS_ERROR)
    if command.rental_id == NO_RENTAL:
        raise Refusal(Code.BAD_PARAM)
    if command.reserved_until_ms <= turn.now.boot_ms:
        raise Refusal(Code.EXPIRED)
    if turn.state.is_lost:
        end_loss(turn)
    turn.transit(Trigger.RESERVED_BY_FLEET)
    turn.change(
        reservation=Reservation(
            rental_id=command.rental_id,
            until_ms=command.reserved_until_ms,
            lock_default=command.lock_default,
            language=command.language,
            cards=command.cards,
            sealed=command.sealed,
        )
    )
    turn.record(
        ReservationStarted(command.rental_id, command.reserved_until_ms, event.msg_id)
    )
    open_for_walk_up(turn)
    _done(turn, event, request, Code.OK)


def _cancel(
    turn: Turn,
    event: CommandReceived,
    request: Request,
    command: orders.CancelReservation,
) -> None:
    if turn.state.rental_id is None:
        _done(turn, event, request, Code.ALREADY_IN_STATE)
        return
    if turn.state.mode is not RentalMode.RESERVED:
        raise Refusal(Code.WRONG_MODE)
    if turn.state.pending is not None:
        raise Refusal(Code.BUSY)
    turn.transit(Trigger.RESERVATION_CANCELLED)
    turn.change(reservation=None)
    turn.record(ReservationCancelled(command.rental_id, command.reason))
    close_unrented(turn)
    _done(turn, event, request, Code.OK)


def _set_mode(
    turn: Turn, event: CommandReceived, request: Request, wanted: ModeRequest
) -> None:
    mode, refuelling = turn.state.mode, None
    if turn.state.rental is not None:
        refuelling = turn.state.rental.refuelling
    if wanted is ModeRequest.REFUEL_DONE and refuelling is not None:
        if payment.holds(turn.rental):
            # An app must not drive off from an open payment either (C21).
            raise Refusal(Code.WRONG_MODE)
        finish_refuelling(turn, refuelling, Trigger.REFUEL_FINISHED)
    elif mode is not RentalMode.STOPPED or wanted is ModeRequest.REFUEL_DONE:
        raise Refusal(Code.WRONG_MODE)
    elif turn.state.pending is not None:
        raise Refusal(Code.BUSY)
    elif wanted is ModeRequest.REFUEL:
        if not turn.rental.pin_accepted:
            raise Refusal(Code.PIN_REQUIRED)
        begin_refuelling(turn)
    else:
        turn.change_rental(parking_chosen=_CHOICES[wanted])
    _done(turn, event, request, Code.OK)


_CHOICES: Final = {
    ModeRequest.PARK: True,
    ModeRequest.END: False,
    ModeRequest.RESUME: None,
}


def _set_default(
    turn: Turn, event: CommandReceived, request: Request, lock_default: LockDefault
) -> None:
    """Change what locking without a choice means, from the next lock on (H8)."""
    turn.change_reservation(lock_default=lock_default)
    _done(turn, event, request, Code.OK)


def _change_grants(
    turn: Turn, event: CommandReceived, request: Request, command: Grant
) -> None:
    code = why_not_change(turn.state, command, turn.now)
    if code is None:
        change_grants(turn, command)
        code = Code.OK
    if not code.succeeded:
        raise Refusal(code)
    _done(turn, event, request, code)


def _set_service(
    turn: Turn, event: CommandReceived, request: Request, command: Service
) -> None:
    if command.request is ServiceRequest.OFF:
        _end_service(turn, event, request)
        return
    if command.until_ms <= turn.now.boot_ms:
        raise Refusal(Code.EXPIRED)
    if not may_begin_service(turn.state):
        busy = turn.state.mode is RentalMode.AVAILABLE
        raise Refusal(Code.BUSY if busy else Code.WRONG_MODE)
    begin_workshop(turn, ServiceModeReason.COMMAND, command.until_ms)
    _done(turn, event, request, Code.OK)


def _end_service(turn: Turn, event: CommandReceived, request: Request) -> None:
    """End service, and take the word that nobody has the car (FF-LED-35)."""
    is_lost = turn.state.is_lost
    code = why_not_free(turn.state, turn.now.boot_ms) if is_lost else None
    if code is not None:
        raise Refusal(code)
    is_on = turn.state.workshop is not None
    end_workshop(turn, ServiceModeReason.COMMAND)
    if is_lost:
        end_loss(turn)
    else:
        close_unrented(turn)
    _done(turn, event, request, Code.OK if is_on or is_lost else Code.ALREADY_IN_STATE)


def _decide_payment(
    turn: Turn, event: CommandReceived, request: Request, command: PaymentDecision
) -> None:
    code = payment.decide(turn, command)
    if not code.succeeded:
        raise Refusal(code)
    _done(turn, event, request, code)


def _unlock(turn: Turn, event: CommandReceived, request: Request) -> None:
    state = turn.state
    is_open = state.reading is not None and not state.reading.locked
    purpose = {
        RentalMode.RESERVED: Purpose.START,
        RentalMode.PARKED: Purpose.RESUME,
        RentalMode.STOPPED: Purpose.PLAIN_UNLOCK,
        RentalMode.REFUELLING: Purpose.PLAIN_UNLOCK,
        RentalMode.DRIVING: Purpose.PLAIN_UNLOCK,
    }[state.mode]
    if purpose is Purpose.PLAIN_UNLOCK and is_open:
        _done(turn, event, request, Code.ALREADY_IN_STATE)
        return
    if state.mode is RentalMode.DRIVING:
        raise Refusal(Code.VEHICLE_MOVING)
    if purpose is Purpose.START and not state.room.keeps_promise:
        raise Refusal(Code.STORAGE_FULL)
    _actuate(turn, event, request, purpose)


def _lock(
    turn: Turn, event: CommandReceived, request: Request, lock_mode: LockMode
) -> None:
    state = turn.state
    if state.rental is None:
        raise Refusal(Code.WRONG_MODE)
    is_locked = state.reading is not None and state.reading.locked
    parked = state.mode is RentalMode.PARKED and lock_mode is not LockMode.END
    if parked and is_locked:
        _done(turn, event, request, Code.ALREADY_IN_STATE)
        return
    if state.mode is RentalMode.REFUELLING and lock_mode not in {
        LockMode.PLAIN,
        LockMode.DEFAULT,
    }:
        raise Refusal(Code.WRONG_MODE)
    if parked or state.mode is RentalMode.REFUELLING or lock_mode is LockMode.PLAIN:
        purpose = Purpose.PLAIN_LOCK
    elif lock_mode is LockMode.DEFAULT:
        purpose = lock_purpose(state.rental)
    else:
        purpose = _CLOSING[lock_mode]
    code = why_not_lock(state, purpose, turn.now.boot_ms)
    if code is not None:
        raise Refusal(code)
    _actuate(turn, event, request, purpose)


def _release(turn: Turn, event: CommandReceived, request: Request) -> None:
    if turn.state.mode not in {RentalMode.STOPPED, RentalMode.REFUELLING}:
        raise Refusal(Code.WRONG_MODE)
    _actuate(turn, event, request, Purpose.RELEASE)
    turn.change_rental(pin=PinGuard(), pin_accepted=True, held=False)
    payment.settle(turn, PaymentStage.WAIVED)


def _hold(turn: Turn, event: CommandReceived, request: Request) -> None:
    if turn.state.rental is None:
        raise Refusal(Code.WRONG_MODE)
    code = why_not_hold(turn.state, turn.now.boot_ms)
    if code is not None:
        raise Refusal(code)
    _actuate(turn, event, request, Purpose.HOLD)


def _actuate(
    turn: Turn, event: CommandReceived, request: Request, purpose: Purpose
) -> None:
    if turn.state.pending is not None:
        raise Refusal(Code.BUSY)
    turn.accepted = event
    if purpose in {
        Purpose.START,
        Purpose.RESUME,
        Purpose.PLAIN_UNLOCK,
    }:
        turn.record(
            AccessGranted(event.command.rental_id, AccessMeans.COMMAND, event.msg_id)
        )
    begin_actuation(
        turn,
        purpose,
        means=AccessMeans.COMMAND,
        authority=event.request_hash,
        request=request,
    )
