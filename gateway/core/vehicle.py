"""The car's mind: one event in, one decision out.

`handle` is called with the state that stands, one event and the instant; it returns the
new state, what belongs in the ledger and what the shell must do, and has no other
effect. The shell commits before it acts (architecture.md: intent is durable before the
bolt moves). `next_deadline` says when to call again although nothing happened.
"""

from contextlib import suppress
from typing import Final, assert_never

from gateway.core import (
    accounting,
    actuation,
    answers,
    destination,
    driving,
    handover,
    inspection,
    maintenance,
    payment,
    pin,
    refuelling,
)
from gateway.core.access import give_up_walk_up, present_card
from gateway.core.accounting import after_reboot, reservation_after_reboot
from gateway.core.actuation import close_unrented
from gateway.core.events import (
    AgentStarted,
    BoardLost,
    BoardRefused,
    BoardReported,
    CardPresented,
    CommandReceived,
    ConfigurationTold,
    DamageEntered,
    DeadlineReached,
    DestinationEntered,
    DiskFailed,
    DiskRecovered,
    Event,
    LedgerReplaced,
    MenuChosen,
    Noted,
    PinChecked,
    PinEntered,
    PositionFixed,
    PumpEntered,
    RatingEntered,
    ReaderLost,
    ReaderRecovered,
    RoomChanged,
    StormBegan,
    StormEnded,
    UpdateBegan,
    UpdateEnded,
    UplinkConnected,
    UplinkLost,
)
from gateway.core.facts import NO_FACTS, with_body
from gateway.core.loss import begin_loss
from gateway.core.moment import Moment
from gateway.core.orders import obey
from gateway.core.prompts import NO_PROMPT
from gateway.core.reading import Reading
from gateway.core.room import Room
from gateway.core.service import enter_service, leave_service
from gateway.core.state import PinGuard, Purpose, Reservation, State
from gateway.core.table import IllegalTransitionError, Trigger
from gateway.core.turn import Decision, Turn
from gateway.core.workshop import end_workshop, may_begin_update, workshop_after_reboot
from protocol.codes import Code, Executed, FaultKind, Light
from protocol.errors import DecodeError
from protocol.event import AgentStarted as AgentStartedEntry
from protocol.event import (
    ReservationExpired,
)
from protocol.rental_codes import ServiceModeReason


def handle(state: State, event: Event, *, now: Moment) -> Decision:
    """Decide on one event.

    Args:
        state: as the last decision left it, or as it was last committed.
        event: what happened.
        now: when; never before the last call's instant within one boot.

    Returns:
        What follows. An event that the table does not allow changes nothing: its
        decision carries the old state and says why in `illegal`.
    """
    turn = Turn(state, now)
    try:
        if isinstance(event, AgentStarted):
            _start(turn, event)
        accounting.put_right(turn)
        _pass_deadlines(turn)
        _take(turn, event)
    except IllegalTransitionError as error:
        return Decision(state, (), (), None, str(error))
    return turn.close()


def next_deadline(state: State) -> int | None:
    """Return the boot instant in ms at which `DeadlineReached` is due, if any."""
    return min((at for at in _deadlines(state) if at is not None), default=None)


def _deadlines(state: State) -> tuple[int | None, ...]:
    reservation = _expiring(state)
    unanswered = payment.pending_of(state.rental)
    return (
        state.refusing_until_ms,
        state.notice_until_ms,
        None if state.walk_up is None else state.walk_up.until_ms,
        _due_of_workshop(state),
        None if state.pending is None else state.pending.deadline_ms,
        None if reservation is None else reservation.until_ms,
        None if state.rental is None else state.rental.pin.blocked_until_ms,
        handover.next_due_ms(state),
        None if unanswered is None else unanswered.until_ms,
    )


def _due_of_workshop(state: State) -> int | None:
    """Return when service ends by itself, but not while its bolts move."""
    if state.workshop is None or state.pending is not None:
        return None
    return state.workshop.until_ms


def _expiring(state: State) -> Reservation | None:
    """Return the reservation, but not while its doors are being opened."""
    return state.reservation if state.pending is None else None


def _pass_deadlines(turn: Turn) -> None:
    """Let every instant that has come have its effect before anything else counts.

    One after the other, since an attempt to open that ends lets the reservation end.
    """
    now_ms = turn.now.boot_ms
    if _is_due(turn.state.refusing_until_ms, now_ms):
        turn.change(refusing_until_ms=None)
    if _is_due(turn.state.notice_until_ms, now_ms):
        turn.hush()
    walk_up = turn.state.walk_up
    if walk_up is not None and walk_up.until_ms <= now_ms:
        give_up_walk_up(turn)
    pending = turn.state.pending
    if pending is not None and pending.deadline_ms <= now_ms:
        actuation.fail(turn, Code.ACTUATOR_TIMEOUT, Executed.MAYBE)
    reservation = _expiring(turn.state)
    if reservation is not None and reservation.until_ms <= now_ms:
        _expire(turn, reservation)
    if _is_due(_due_of_workshop(turn.state), now_ms):
        end_workshop(turn, ServiceModeReason.EXPIRED)
        close_unrented(turn)
    rental = turn.state.rental
    if rental is not None and _is_due(rental.pin.blocked_until_ms, now_ms):
        pin.lift_block(turn)
    if _is_due(handover.next_due_ms(turn.state), now_ms):
        handover.pass_time(turn)
    unanswered = payment.pending_of(rental)
    if unanswered is not None and unanswered.until_ms <= now_ms:
        payment.give_up(turn, unanswered)


def _is_due(at_ms: int | None, now_ms: int) -> bool:
    return at_ms is not None and at_ms <= now_ms


def _expire(turn: Turn, reservation: Reservation) -> None:
    turn.transit(Trigger.RESERVATION_EXPIRED)
    turn.change(reservation=None)
    turn.record(ReservationExpired(reservation.rental_id))
    close_unrented(turn)


def _take(turn: Turn, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915 - one for each event
    match event:
        case CardPresented(uid=uid):
            present_card(turn, uid)
        case CommandReceived():
            obey(turn, event)
        case BoardReported(reading=reading):
            _read(turn, reading)
        case BoardRefused(reason=reason, of_engine=of_engine):
            actuation.refuse_by_board(turn, reason, of_engine=of_engine)
        case BoardLost():
            turn.change(reading=None, suspects=())
            actuation.raise_fault(turn, FaultKind.BOARD_SILENT)
        case ReaderLost():
            actuation.raise_fault(turn, FaultKind.READER_GONE)
        case ReaderRecovered():
            actuation.clear_fault(turn, FaultKind.READER_GONE)
        case PinEntered():
            pin.enter_pin(turn, event)
        case PinChecked():
            pin.take_verdict(turn, event)
        case MenuChosen(choice=choice):
            answers.choose(turn, choice)
        case RatingEntered():
            inspection.rate(turn, event)
        case DamageEntered():
            inspection.report_damage(turn, event)
        case PumpEntered():
            payment.enter_pump(turn, event)
        case DestinationEntered():
            destination.enter_destination(turn, event)
        case UplinkConnected():
            turn.change(online=True)
        case UplinkLost():
            turn.change(online=False)
        case DiskFailed():
            enter_service(turn)
        case DiskRecovered():
            leave_service(turn)
        case RoomChanged(room=room):
            turn.change(room=room)
        case StormBegan():
            actuation.raise_fault(turn, FaultKind.RESTART_STORM)
        case StormEnded():
            actuation.clear_fault(turn, FaultKind.RESTART_STORM)
        case Noted(entries=entries):
            turn.record(*entries)
        case LedgerReplaced(reset=reset):
            begin_loss(turn, reset)
        case ConfigurationTold():
            _learn(turn, event)
        case PositionFixed(position=position):
            at_ms = turn.now.boot_ms - position.age_ms
            turn.change(position=position, position_at_ms=at_ms)
            driving.note_station(turn)
        case UpdateBegan():
            if may_begin_update(turn.state):
                turn.change(updating=True)
        case UpdateEnded():
            turn.change(updating=False)
        case AgentStarted() | DeadlineReached():
            pass
        case _:
            assert_never(event)


def _start(turn: Turn, event: AgentStarted) -> None:
    """Continue from what was committed before the agent, or the machine, went down."""
    state, now = turn.state, turn.now
    turn.change(
        reading=None,
        position=None,
        position_at_ms=0,
        facts=NO_FACTS,
        online=False,
        suspects=(),
        room=Room.ANOTHER,
        tap=None,
        walk_up=None,
        updating=False,
        refusing_until_ms=None,
        notice=NO_PROMPT,
        notice_until_ms=None,
        shown_light=Light.OFF,
        shown_blinking=False,
        shown_prompt=NO_PROMPT,
    )
    turn.record(AgentStartedEntry(event.boot_counter, event.firmware))
    # The reader's driver is as new as the agent and tells only what it misses itself.
    # Locks and engine are believed again until they fail again: without that a car that
    # nobody can reserve would never be tried, and stay out of service for ever.
    for kind in _FORGIVEN_AT_START:
        actuation.clear_fault(turn, kind)
    # A start that finds the disk still broken says so by an event of its own.
    leave_service(turn)
    if state.pending is not None:
        # It may or may not have moved; it is never done again (I-5, I-10). A customer
        # at the car holds the card to it once more.
        turn.change(pending=None)
        if state.pending.purpose is Purpose.HOLD:
            turn.change_rental(pin_accepted=False)
        turn.answer(
            state.pending.request, Code.INDETERMINATE_AFTER_REBOOT, Executed.MAYBE
        )
    if event.same_boot:
        return
    # A reboot by command counts as just done, or a fleet could reboot in a loop (I-30).
    restarted_ms = None if state.restarted_ms is None else now.boot_ms
    turn.change(refusal_told_ms=None, restarted_ms=restarted_ms)
    if state.workshop is not None:
        turn.change(workshop=workshop_after_reboot(state.workshop, state.last, now))
    if state.reservation is not None:
        turn.change(
            reservation=reservation_after_reboot(state.reservation, state.last, now)
        )
    if state.rental is not None:
        turn.change(rental=after_reboot(state.rental, state.last, now))
        # Their ends were instants of the old boot; the fleet tells what still holds.
        turn.change_rental(handover=None, search=None)
        if state.rental.pin.blocked_until_ms is not None:
            guard_until_ms = now.boot_ms + pin.PIN_BLOCK_MS
            turn.change_rental(pin=_blocked(turn, guard_until_ms))


_FORGIVEN_AT_START: Final = (
    FaultKind.READER_GONE,
    FaultKind.LOCK_NO_READBACK,
    FaultKind.ENGINE_NO_READBACK,
    FaultKind.LOCK_REFUSED,
    FaultKind.ENGINE_REFUSED,
)


def _blocked(turn: Turn, until_ms: int) -> PinGuard:
    guard = turn.rental.pin
    return PinGuard(guard.wrong, guard.blocks, until_ms)


def _read(turn: Turn, reading: Reading) -> None:
    """Take the board's report: read-backs, engine, levels."""
    first = turn.state.reading is None
    turn.change(reading=reading, reading_at_ms=turn.now.boot_ms)
    actuation.clear_fault(turn, FaultKind.BOARD_SILENT)
    actuation.watch_supply(turn, reading)
    pending = turn.state.pending
    if pending is not None and actuation.reads_back(pending, reading):
        actuation.complete(turn, pending)
    driving.follow_engine(turn, reading)
    if turn.state.rental is not None:
        driving.watch_level(turn, reading)
    refuelling.watch_plug(turn, reading)
    maintenance.watch_upkeep(turn, reading)
    if first:
        driving.restore_engine(turn)
        close_unrented(turn)
    else:
        payment.keep_engine(turn)


def _learn(turn: Turn, event: ConfigurationTold) -> None:
    """Let a body count; one that cannot be read leaves the facts as they were.

    The shell asks before it lets a body in, but one of an older program may be on the
    disk still.
    """
    turn.record(*event.entries)
    with suppress(DecodeError):
        turn.change(facts=with_body(turn.state.facts, event.kind, event.body))
