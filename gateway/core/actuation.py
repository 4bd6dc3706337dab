"""Actuations: asked for, awaited, and done only when the board reads them back.

One at a time. Between the order to the board and its read-back stands a `Pending`; it
ends in exactly one of three ways: the wanted state was read back, the board refused, or
the deadline passed and nobody knows (I-10). The board checks the physics again by
itself before it moves anything (I-1); the checks here save a customer the wait.
"""

from typing import Final, assert_never

from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.ending import is_outside
from gateway.core.events import BoardRefusal
from gateway.core.grants import spend_grants
from gateway.core.prompts import Prompt, PromptKey
from gateway.core.reading import STALE_MS, Reading
from gateway.core.rental import begin, end, known, stay_ms
from gateway.core.state import Pending, Purpose, Request, State
from gateway.core.table import Trigger
from gateway.core.turn import Turn
from gateway.core.workshop import CARD_SERVICE_MS, begin_workshop, end_workshop
from protocol.codes import AccessMeans, Code, EndReason, Executed, FaultKind
from protocol.event import (
    EngineReleased,
    FaultCleared,
    FaultRaised,
    Parked,
    Resumed,
)
from protocol.rental_codes import ServiceModeReason

ACTUATION_MS: Final = 3_000
"""Longest wait for a read-back: central locking takes under one second, and the board
repeats a lost order within two (docs/board-protocol.md)."""

SUPPLY_BACK_MV: Final = 11_000
"""From here up a motor that was refused is tried again: well above the 9.5 V at which
boards refuse, so that a battery which sags under the motor raises no fault twice
(assumed)."""

OPENING: Final = frozenset(
    {Purpose.START, Purpose.RESUME, Purpose.PLAIN_UNLOCK, Purpose.SERVICE_OPEN}
)
CLOSING: Final = frozenset(
    {Purpose.PARK, Purpose.END, Purpose.PLAIN_LOCK, Purpose.SERVICE_CLOSE}
)
_HOLDING: Final = frozenset({Purpose.PARK, Purpose.END})
_OF_ENGINE: Final = frozenset({Purpose.RELEASE, Purpose.HOLD})

_REFUSED: Final = {
    BoardRefusal.DOOR_OPEN: Code.DOOR_OPEN,
    BoardRefusal.MOVING: Code.VEHICLE_MOVING,
    BoardRefusal.ENGINE_RUNNING: Code.IGNITION_ON,
    BoardRefusal.LOW_VOLTAGE: Code.LOW_VOLTAGE,
    BoardRefusal.FAULT: Code.ACTUATOR_FAULT,
}


_HINTS: Final = {
    Code.DOOR_OPEN: PromptKey.CLOSE_DOORS,
    Code.IGNITION_ON: PromptKey.SWITCH_OFF,
    Code.VEHICLE_MOVING: PromptKey.SWITCH_OFF,
    Code.ACTUATOR_TIMEOUT: PromptKey.TRY_AGAIN,
    Code.ACTUATOR_FAULT: PromptKey.TRY_AGAIN,
    Code.LOW_VOLTAGE: PromptKey.TRY_AGAIN,
}
"""What a customer at the car can do about it."""


def begin_actuation(
    turn: Turn,
    purpose: Purpose,
    *,
    means: AccessMeans,
    authority: bytes,
    request: Request | None,
) -> None:
    """Order the board and wait for its read-back."""
    turn.change(
        pending=Pending(
            purpose=purpose,
            deadline_ms=turn.now.boot_ms + ACTUATION_MS,
            means=means,
            authority=authority,
            request=request,
        )
    )
    if purpose in OPENING:
        turn.act(DriveLocks(locked=False))
    elif purpose in CLOSING:
        if purpose in _HOLDING:
            turn.act(AllowEngine(released=False))
        turn.act(DriveLocks(locked=True))
    else:
        turn.act(AllowEngine(released=purpose is Purpose.RELEASE))


def reads_back(pending: Pending, reading: Reading) -> bool:
    """Return whether the board shows what was asked for."""
    match pending.purpose:
        case (
            Purpose.START | Purpose.RESUME | Purpose.PLAIN_UNLOCK | Purpose.SERVICE_OPEN
        ):
            return not reading.locked
        case Purpose.PARK | Purpose.END:
            # A car that drives off is neither parked nor ended, whatever its bolts say.
            held = not (reading.engine_released or reading.engine_running)
            return reading.locked and held
        case Purpose.PLAIN_LOCK | Purpose.SERVICE_CLOSE:
            return reading.locked
        case Purpose.RELEASE:
            return reading.engine_released
        case Purpose.HOLD:
            return not reading.engine_released
        case _:
            assert_never(pending.purpose)


def complete(turn: Turn, pending: Pending) -> None:  # noqa: C901 - one for each purpose
    """Let what was asked for count, now that it was read back."""
    turn.change(pending=None)
    _forgive(turn, pending)
    match pending.purpose:
        case Purpose.START:
            _start(turn, pending)
        case Purpose.RESUME:
            _resume(turn, pending)
        case Purpose.PARK:
            turn.transit(Trigger.LOCKED_TO_PARK)
            turn.change_rental(
                parked_since_ms=turn.now.boot_ms,
                stay_carried_ms=0,
                parking_chosen=None,
                reporting=False,
                driven=False,
                pin_accepted=False,
            )
            turn.record(Parked(turn.rental_id, pending.means, known(turn).odometer_m))
        case Purpose.END:
            turn.transit(Trigger.LOCKED_TO_END)
            # In the language of the customer, who is nobody's after the end; and told
            # as ended only if the disk takes the report (H21).
            stored = FaultKind.STORAGE_FAILED not in turn.state.faults
            key = PromptKey.RENTAL_ENDED if stored else PromptKey.END_NOT_STORED
            turn.notify(Prompt(key))
            by_card = pending.means is AccessMeans.CARD
            reason = EndReason.CARD if by_card else EndReason.COMMAND
            end(turn, reason, pending.authority)
        case Purpose.RELEASE:
            turn.record(EngineReleased(turn.rental_id, pending.means))
        case Purpose.PLAIN_UNLOCK:
            # A second tap must not end what was just opened (I-14).
            turn.change_rental(opened_ms=turn.now.boot_ms, driven=False)
        case Purpose.HOLD:
            turn.change_rental(pin_accepted=False, held=True)
        case Purpose.SERVICE_OPEN:
            if turn.state.workshop is None:
                until_ms = turn.now.boot_ms + CARD_SERVICE_MS
                begin_workshop(turn, ServiceModeReason.CARD, until_ms)
        case Purpose.SERVICE_CLOSE:
            end_workshop(turn, ServiceModeReason.CARD)
        case Purpose.PLAIN_LOCK:
            pass
        case _:
            assert_never(pending.purpose)
    turn.answer(pending.request, Code.OK, Executed.YES)


def _start(turn: Turn, pending: Pending) -> None:
    reservation = turn.state.reservation
    if reservation is None:
        raise LookupError("a rental starts from a reservation only")
    turn.transit(Trigger.DOORS_OPENED)
    begin(turn, reservation, pending.means)
    spend_grants(turn, reservation.rental_id)


def _resume(turn: Turn, pending: Pending) -> None:
    turn.transit(Trigger.DOORS_OPENED)
    rental = turn.rental
    parked_ms = stay_ms(rental, turn.now)
    turn.change_rental(
        parking_ms=rental.parking_ms + parked_ms,
        parked_since_ms=None,
        stay_carried_ms=0,
        opened_ms=turn.now.boot_ms,
    )
    turn.record(Resumed(turn.rental_id, pending.means, parked_ms))


def fail(
    turn: Turn, code: Code, executed: Executed, *, of_engine: bool = False
) -> None:
    """End the actuation under way without what it was for; none under way is nothing.

    The mode stays; a fault is raised once, and a customer at the car is told.

    Args:
        turn: the decision.
        code: why.
        executed: whether anything moved.
        of_engine: whether it was the engine's relay that refused.
    """
    pending = turn.state.pending
    if pending is None:
        return
    turn.change(pending=None)
    perhaps_held = pending.purpose is Purpose.HOLD and executed is not Executed.NO
    if pending.purpose is Purpose.RELEASE or perhaps_held:
        # The engine is not released as far as anybody knows: ask for the PIN again.
        turn.change_rental(pin_accepted=False)
    elif pending.purpose in _HOLDING and turn.rental.pin_accepted:
        # It was held for a lock that did not come, and a driver must not be left
        # without an engine, nor an engine that starts meanwhile be held (I-2, I-19).
        turn.act(AllowEngine(released=True))
    at_engine = of_engine or _hangs_at_engine(turn.state, pending)
    if code in {Code.ACTUATOR_TIMEOUT, Code.ACTUATOR_FAULT}:
        silent = FaultKind.ENGINE_NO_READBACK
        raise_fault(turn, silent if at_engine else FaultKind.LOCK_NO_READBACK)
    elif code is Code.LOW_VOLTAGE:
        weak = FaultKind.ENGINE_REFUSED
        raise_fault(turn, weak if at_engine else FaultKind.LOCK_REFUSED)
    if pending.request is None:
        turn.blink_refusal()
        turn.notify(Prompt(_HINTS[code]))
    turn.answer(pending.request, code, executed)


def refuse_by_board(turn: Turn, reason: BoardRefusal, *, of_engine: bool) -> None:
    """Take the board's refusal: what was refused did not move.

    A refusal that belongs to no order of the actuation under way, the engine's while
    doors open for instance, says nothing about it.
    """
    pending = turn.state.pending
    if pending is None:
        return
    if of_engine and pending.purpose in _HOLDING:
        # The locks have an order of their own behind it, and may close yet.
        fail(turn, _REFUSED[reason], Executed.MAYBE, of_engine=True)
    elif of_engine is (pending.purpose in _OF_ENGINE):
        fail(turn, _REFUSED[reason], Executed.NO)


def close_unrented(turn: Turn) -> None:
    """Close the bolts of a car that nobody has, if that is safe.

    An opening that was cut off by a restart, a cancellation or the end of a reservation
    can leave a car free and open; nobody waits for this lock, the next report shows it.
    A car that does not know whether somebody has it stays as it is (I-19, I-28).
    """
    state = turn.state
    is_open = state.reading is not None and not state.reading.locked
    busy = state.pending is not None or state.workshop is not None
    unrented = state.rental is None and not busy and not state.is_lost
    if not (is_open and unrented):
        return
    if why_not_lock(state, Purpose.PLAIN_LOCK, turn.now.boot_ms) is None:
        turn.act(DriveLocks(locked=True))


def raise_fault(turn: Turn, kind: FaultKind) -> None:
    """Tell a fault once for each episode."""
    if kind not in turn.state.faults:
        turn.change(faults=turn.state.faults | {kind})
        turn.record(FaultRaised(kind))


def clear_fault(turn: Turn, kind: FaultKind) -> None:
    """Tell once that a fault is over."""
    if kind in turn.state.faults:
        turn.change(faults=turn.state.faults - {kind})
        turn.record(FaultCleared(kind))


def _forgive(turn: Turn, pending: Pending) -> None:
    """Let the faults of what has just moved be over."""
    if pending.purpose not in _OF_ENGINE:
        clear_fault(turn, FaultKind.LOCK_NO_READBACK)
        clear_fault(turn, FaultKind.LOCK_REFUSED)
    if pending.purpose in _OF_ENGINE | _HOLDING:
        clear_fault(turn, FaultKind.ENGINE_NO_READBACK)
        clear_fault(turn, FaultKind.ENGINE_REFUSED)


def _hangs_at_engine(state: State, pending: Pending) -> bool:
    """Return whether the engine's relay and not the bolts is what did not come.

    Bolts that are read back closed have done their part of a lock that parks or ends.
    Which part it was decides who is sent with which spare part.
    """
    if pending.purpose in _OF_ENGINE:
        return True
    closed = state.reading is not None and state.reading.locked
    return pending.purpose in _HOLDING and closed


def watch_supply(turn: Turn, reading: Reading) -> None:
    """Let refusals for want of voltage be over when it has come back.

    A car that nobody can reserve would not be tried, and stay out of use for ever.
    """
    if reading.supply_mv is not None and reading.supply_mv >= SUPPLY_BACK_MV:
        clear_fault(turn, FaultKind.LOCK_REFUSED)
        clear_fault(turn, FaultKind.ENGINE_REFUSED)


def why_not_lock(state: State, purpose: Purpose, now_ms: int) -> Code | None:
    """Return why the car must not be locked now, None when it may (I-1, H20).

    A reading that is missing or stale says nothing, and what is not known to be safe
    is not done.
    """
    reading = state.reading
    if reading is None or now_ms - state.reading_at_ms > STALE_MS:
        return Code.BUS_ERROR
    ending = purpose is Purpose.END
    holders_filled = reading.key_present and reading.fuel_card_present
    hindrances = (
        (reading.engine_running or reading.ignition_on, Code.IGNITION_ON),
        (reading.moving, Code.VEHICLE_MOVING),
        (reading.door_open or reading.boot_open, Code.DOOR_OPEN),
        (ending and not holders_filled, Code.KEY_OR_CARD_MISSING),
        (ending and is_outside(state, now_ms), Code.OUT_OF_ZONE),
    )
    return next((code for hinders, code in hindrances if hinders), None)


def why_not_hold(state: State, now_ms: int) -> Code | None:
    """Return why the engine must not be held now, None when it may (I-2)."""
    reading = state.reading
    if reading is None or now_ms - state.reading_at_ms > STALE_MS:
        return Code.BUS_ERROR
    if reading.moving:
        return Code.VEHICLE_MOVING
    return Code.IGNITION_ON if reading.engine_running else None
