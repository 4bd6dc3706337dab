"""What can happen to a car, as the exploration tries it: alphabets small and large.

A step may begin "with" something that `tests.gateway.core.abstraction` forgets between
two steps: an old report of the board, a disk that fails, a grant, the third wrong PIN.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.access import AUTHORITY_SIZE
from gateway.core.events import (
    AgentStarted,
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
    CardPresented,
    CommandReceived,
    DeadlineReached,
    DestinationEntered,
    DiskFailed,
    DiskRecovered,
    Event,
    LedgerReplaced,
    MenuChosen,
    PinChecked,
    PinVerdict,
    PumpEntered,
    ReaderRecovered,
    RoomChanged,
    UpdateBegan,
    UpdateEnded,
)
from gateway.core.prompts import Choice
from gateway.core.reading import STALE_MS
from gateway.core.room import Room
from gateway.core.state import Handover, PinGuard, Rental, SearchRequest, State
from protocol.codes import (
    FaultKind,
    LockDefault,
    LockMode,
    ModeRequest,
)
from protocol.command import ANY_VERSION, COMMANDS, OPCODE_OF, Command
from protocol.identity import card_digest
from protocol.rental_codes import (
    GrantAction,
    PaymentOutcome,
    ResetReason,
    Rights,
    ServiceRequest,
)
from protocol.rental_command import Grant, HandoverOffer, PaymentDecision, Service
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import LedgerReset
from tests.gateway.core.abstraction import NOW, NOW_MS, OFFER, PAYMENT
from tests.gateway.core.scene import (
    CARD,
    FIRMWARE,
    RENTAL,
    RESTING,
    SEALED,
    SECOND_CARD,
    START_WALL_MS,
    STRANGER,
    cancel,
    hold,
    lock,
    release,
    reserve,
    set_mode,
    unlock,
)

BOB: Final = bytes.fromhex("04b0b0b0b0b0b0")
"""The card of who takes the car over."""

With = Callable[[State], State | None]
"""Puts something into the state that the abstraction forgets; None where it has no
place."""


@dataclass(frozen=True)
class Step:
    """One thing that can happen."""

    name: str
    event: Event
    begin: tuple[With, ...] = ()

    def before(self, state: State) -> State | None:
        """Return the state in which it happens, None if it cannot."""
        begun: State | None = state
        for put in self.begin:
            if begun is None:
                return None
            begun = put(begun)
        return begun


# --- what a step may begin with ---------------------------------------------------


def _stale(state: State) -> State | None:
    if state.reading is None:
        return None
    return replace(state, reading_at_ms=NOW_MS - STALE_MS - 1)


def _broken_disk(state: State) -> State:
    return replace(state, faults=state.faults | {FaultKind.STORAGE_FAILED})


def _full(state: State) -> State:
    return replace(state, room=Room.PROMISED)


def _very_full(state: State) -> State:
    return replace(state, room=Room.RUNNING)


def _degraded(state: State) -> State:
    return replace(state, faults=state.faults | {FaultKind.READER_GONE})


def _forgotten(_state: State) -> State:
    """A new ledger begins with the state of a car that knows nothing."""
    return State()


def _offline(state: State) -> State:
    return replace(state, online=False)


def _granted(rights: Rights) -> With:
    grant = Grant(
        rental_id=RENTAL,
        expected_version=ANY_VERSION,
        action=GrantAction.ADD,
        grant_id=bytes(15) + b"\1",
        card=card_digest(RENTAL, SECOND_CARD),
        not_before_wall_ms=START_WALL_MS - 1,
        not_after_wall_ms=START_WALL_MS + 1,
        rights=rights,
        lock_default=LockDefault.PARK,
        language=b"en",
        sealed=SEALED,
    )
    return lambda state: replace(state, grants=(grant,))


_GRANTED: Final = _granted(Rights.UNLOCK | Rights.DRIVE)
_TECHNICIAN: Final = _granted(Rights.UNLOCK | Rights.SERVICE)


def _in_rental(change: Callable[[Rental], Rental | None]) -> With:
    def put(state: State) -> State | None:
        changed = None if state.rental is None else change(state.rental)
        return None if changed is None else replace(state, rental=changed)

    return put


def _parking(rental: Rental) -> Rental:
    reservation = replace(rental.reservation, lock_default=LockDefault.PARK)
    return replace(rental, reservation=reservation)


def _just_opened(rental: Rental) -> Rental:
    return replace(rental, opened_ms=NOW_MS)


def _one_pin_left(blocks: int) -> Callable[[Rental], Rental | None]:
    def change(rental: Rental) -> Rental | None:
        guard = rental.pin
        if guard.blocks or guard.blocked_until_ms is not None:
            return None
        return replace(rental, pin=PinGuard(wrong=2, blocks=blocks))

    return change


def _asks_pump(rental: Rental) -> Rental | None:
    visit = rental.refuelling
    if visit is None:
        return None
    return replace(rental, refuelling=replace(visit, asks_pump=True))


def _planning(rental: Rental) -> Rental:
    return replace(rental, planning=True)


def _searched(rental: Rental) -> Rental:
    search = SearchRequest(bytes(16), NOW_MS + 60_000, 300, "Bob")
    return replace(rental, search=search)


def _handover(change: Callable[[Handover], Handover]) -> With:
    def put(rental: Rental) -> Rental | None:
        handover = rental.handover
        return None if handover is None else replace(rental, handover=change(handover))

    return _in_rental(put)


def _worn_out(handover: Handover) -> Handover:
    return replace(handover, wrong=2)


def _alive(state: State) -> State:
    """A machine that went down an instant ago and was told the time."""
    return replace(state, last=NOW)


# --- deadlines: each may be the next ----------------------------------------------


def _due_pending(state: State) -> State | None:
    if state.pending is None:
        return None
    return replace(state, pending=replace(state.pending, deadline_ms=NOW_MS))


def _due_reservation(state: State) -> State | None:
    if state.reservation is None:
        return None
    return replace(state, reservation=replace(state.reservation, until_ms=NOW_MS))


def _due_walk_up(state: State) -> State | None:
    if state.walk_up is None:
        return None
    return replace(state, walk_up=replace(state.walk_up, until_ms=NOW_MS))


def _due_workshop(state: State) -> State | None:
    if state.workshop is None:
        return None
    return replace(state, workshop=replace(state.workshop, until_ms=NOW_MS))


def _due_block(rental: Rental) -> Rental | None:
    if rental.pin.blocked_until_ms is None:
        return None
    return replace(rental, pin=replace(rental.pin, blocked_until_ms=NOW_MS))


def _due_payment(rental: Rental) -> Rental | None:
    if rental.payment is None:
        return None
    return replace(rental, payment=replace(rental.payment, until_ms=NOW_MS))


def _due_handover(handover: Handover) -> Handover:
    return replace(handover, until_ms=NOW_MS)


def _due_question(handover: Handover) -> Handover:
    asks = handover.asks_pin_until_ms is not None
    return replace(handover, asks_pin_until_ms=NOW_MS if asks else None)


def _over(name: str, put: With) -> Step:
    return Step(f"over: {name}", DeadlineReached(), (put,))


# --- the steps --------------------------------------------------------------------


def _reports(name: str, **changes: object) -> Step:
    reading = replace(RESTING, **changes)  # type: ignore[arg-type] # by name
    return Step(f"board: {name}", BoardReported(reading))


def _order(name: str, command: Command, *begin: With) -> Step:
    event = CommandReceived(
        command=command,
        msg_id=bytes(15) + b"\1",
        request_hash=bytes(AUTHORITY_SIZE - 1) + b"\1",
        key_id=bytes(8),
        lane=COMMANDS[OPCODE_OF[type(command)]].lane,
        seq=1,
    )
    return Step(f"order: {name}", event, begin)


def _chooses(choice: Choice, *begin: With) -> Step:
    return Step(f"choose: {choice.value}", MenuChosen(choice), begin)


def _with(step: Step, words: str, *begin: With) -> Step:
    return Step(f"{step.name}, {words}", step.event, (*step.begin, *begin))


_DRIVES: Final = {"engine_running": True, "ignition_on": True, "speed_dkmh": 300}

_RESERVE: Final = _order("reserve", reserve(NOW_MS + 900_000, cards=(CARD,)))
_CUSTOMER: Final = Step("the customer's card", CardPresented(CARD))
_TO_END: Final = _order("lock to end", lock(LockMode.END))
_UNLOCK: Final = _order("unlock", unlock())
_RELEASE: Final = _order("release the engine", release())
_RIGHT: Final = Step("the right PIN", PinChecked(RENTAL, PinVerdict.RIGHT))
_WRONG: Final = Step("a wrong PIN", PinChecked(RENTAL, PinVerdict.WRONG))
HOLD: Final = _order("hold the engine", hold())
STRANGERS_TAP: Final = Step("a stranger's card", CardPresented(STRANGER))

SHORT: Final = (
    _over("the wait for the bolts", _due_pending),
    _over("the reservation", _due_reservation),
    _reports("locked, still, engine held"),
    _reports("open, still, engine held", locked=False),
    _reports("open, still, engine released", locked=False, engine_released=True),
    _reports("open, driving", locked=False, engine_released=True, **_DRIVES),
    _reports("open, a door open", locked=False, door_open=True),
    _CUSTOMER,
    _with(_CUSTOMER, "who parks", _in_rental(_parking)),
    _RIGHT,
    _RESERVE,
    _TO_END,
)
"""A rental and no more: for plants, since it is over in a second."""

PAYING: Final = (
    _chooses(Choice.REFUEL),
    _chooses(Choice.REFUEL_DONE),
    _chooses(Choice.PAID_BY_CARD),
    _chooses(Choice.PAY_ONLINE),
    Step("the pump's number", PumpEntered(4), (_in_rental(_asks_pump),)),
    _order(
        "paid",
        PaymentDecision(RENTAL, ANY_VERSION, PAYMENT, PaymentOutcome.PAID, b"EUR", 1),
    ),
    _order(
        "payment refused",
        PaymentDecision(
            RENTAL, ANY_VERSION, PAYMENT, PaymentOutcome.REFUSED, b"EUR", 1
        ),
    ),
    _over("the wait for the payment", _in_rental(_due_payment)),
    _order("refuelled", set_mode(ModeRequest.REFUEL_DONE)),
)
"""Online payment, and the fuel card as the way out."""

_BOBS_CARD: Final = Step("the second driver's card", CardPresented(BOB))
_BOBS_RIGHT: Final = Step(
    "the second driver's right PIN", PinChecked(OFFER, PinVerdict.RIGHT)
)
_BOBS_WRONG: Final = Step(
    "the second driver's wrong PIN", PinChecked(OFFER, PinVerdict.WRONG)
)

HANDING_OVER: Final = (
    _order(
        "hand over",
        HandoverOffer(
            rental_id=RENTAL,
            expected_version=ANY_VERSION,
            offer_id=OFFER,
            until_ms=NOW_MS + 900_000,
            latitude_e7=0,
            longitude_e7=0,
            cards=(card_digest(OFFER, BOB),),
            sealed=SEALED,
        ),
    ),
    _BOBS_CARD,
    _BOBS_RIGHT,
    _chooses(Choice.DECLINE_HANDOVER),
    _over("the handover", _handover(_due_handover)),
    _over("the wait for the second PIN", _handover(_due_question)),
    _order("unlock for the second driver", unlock(OFFER)),
    _with(_BOBS_WRONG, "the third", _handover(_worn_out)),
)
"""Handover, from the fleet's word to the second driver's PIN."""

_SECOND: Final = Step("a second card", CardPresented(SECOND_CARD))

FULL: Final = (
    *(_with(each, "on a full disk", _full) for each in (_RESERVE, _CUSTOMER)),
    _with(_SECOND, "with a grant on a full disk", _GRANTED, _full),
    *(
        _with(each, "on a very full disk", _very_full)
        for each in (_CUSTOMER, _UNLOCK, _TO_END, _RIGHT, _BOBS_CARD, _BOBS_RIGHT)
    ),
)
"""What begins a rental where it could not be recorded, and what ends one (I-20)."""

LOSING: Final = (
    Step(
        "the ledger is lost",
        LedgerReplaced(LedgerReset(bytes(8), 7, bytes(32), ResetReason.CORRUPT)),
        (_forgotten,),
    ),
    _reports("locked, still, engine released", engine_released=True),
    _order("nobody has it", Service(NO_RENTAL, ANY_VERSION, ServiceRequest.OFF, 0)),
)
"""A car that does not know whether somebody has it, and the fleet's word for it."""

WORKSHOP: Final = (
    _with(_SECOND, "of a technician", _TECHNICIAN),
    _with(_SECOND, "of a technician, with an old report", _TECHNICIAN, _stale),
    _with(_SECOND, "of a technician, with a broken disk", _TECHNICIAN, _broken_disk),
    _order(
        "service",
        Service(NO_RENTAL, ANY_VERSION, ServiceRequest.ON, NOW_MS + 900_000),
    ),
    _over("the service", _due_workshop),
    Step("an update begins", UpdateBegan()),
    Step("an update ends", UpdateEnded()),
    Step("the disk fails", DiskFailed()),
    Step("the disk is back", DiskRecovered(), (_broken_disk,)),
)
"""Service, update and fault, which no rental may begin in, nor they in one (I-17)."""

MEDIUM: Final = (
    *SHORT,
    HOLD,
    STRANGERS_TAP,
    *PAYING,
    *HANDING_OVER,
    *FULL,
    *LOSING,
)
"""For each run of the tests: seconds."""

_ORDERS: Final = (
    _RESERVE,
    _UNLOCK,
    _TO_END,
    _order("lock to park", lock(LockMode.PARK)),
    _order("lock by default", lock(LockMode.DEFAULT)),
    _order("plain lock", lock(LockMode.PLAIN)),
    _RELEASE,
    HOLD,
)
_TAPS: Final = (_CUSTOMER, _with(_CUSTOMER, "who parks", _in_rental(_parking)))

DEEP: Final = (
    *MEDIUM,
    *WORKSHOP,
    *_ORDERS[1:2],
    *_ORDERS[3:7],
    _reports("locked, driving", engine_released=True, **_DRIVES),
    _reports("locked, driving, engine held", **_DRIVES),
    _reports("open, driving, engine held", locked=False, **_DRIVES),
    _reports("locked, a door open", door_open=True),
    _reports("open, key missing", locked=False, key_present=False),
    _reports("open, ignition on", locked=False, ignition_on=True),
    _reports("open, speed unknown", locked=False, speed_dkmh=None),
    _reports("locked, rolling", speed_dkmh=10),
    *(_with(each, "with an old report", _stale) for each in (*_TAPS, *_ORDERS)),
    *(
        _with(each, "with a broken disk", _broken_disk)
        for each in (*_TAPS, *_ORDERS, _RIGHT, _BOBS_CARD, _BOBS_RIGHT)
    ),
    *(_with(each, "with a fault", _degraded) for each in (_RESERVE, *_TAPS)),
    *(
        _with(each, "on a very full disk", _very_full)
        for each in (_RESERVE, *_TAPS[1:], *_ORDERS[3:])
    ),
    _with(_SECOND, "with a grant on a very full disk", _GRANTED, _very_full),
    _with(_SECOND, "of a technician, on a very full disk", _TECHNICIAN, _very_full),
    _with(_BOBS_CARD, "on a full disk", _full),
    _with(_BOBS_RIGHT, "on a full disk", _full),
    _with(HANDING_OVER[6], "on a full disk", _full),
    Step("the disk fills", RoomChanged(Room.RUNNING)),
    _with(_CUSTOMER, "who has just opened", _in_rental(_just_opened)),
    _SECOND,
    _with(_SECOND, "with a grant", _GRANTED),
    _with(_SECOND, "with a grant and a fault", _GRANTED, _degraded),
    _with(_SECOND, "with a grant and a broken disk", _GRANTED, _broken_disk),
    _with(_WRONG, "the third", _in_rental(_one_pin_left(0))),
    _with(_WRONG, "the last", _in_rental(_one_pin_left(2))),
    _over("the block", _in_rental(_due_block)),
    _over("the walk-up", _due_walk_up),
    _order("cancel", cancel()),
    _order("refuel", set_mode(ModeRequest.REFUEL)),
    _chooses(Choice.OFFER_HANDOVER),
    _chooses(Choice.PLAN_HANDOVER),
    Step("a destination", DestinationEntered("Elm Street"), (_in_rental(_planning),)),
    _chooses(Choice.ACCEPT_HANDOVER, _in_rental(_searched)),
    _with(PAYING[4], "offline", _offline),
    _with(_BOBS_CARD, "with an old report", _stale),
    Step("the board is silent", BoardLost()),
    Step("the board refuses the locks", BoardRefused(BoardRefusal.FAULT)),
    Step("the board refuses the engine", BoardRefused(BoardRefusal.MOVING, True)),
    Step("the board wants voltage", BoardRefused(BoardRefusal.LOW_VOLTAGE)),
    Step("the reader is back", ReaderRecovered(), (_degraded,)),
    Step("the agent restarts", AgentStarted(2, FIRMWARE, same_boot=True)),
    Step("the machine restarts", AgentStarted(2, FIRMWARE, same_boot=False)),
    Step(
        "the machine restarts at once",
        AgentStarted(2, FIRMWARE, same_boot=False),
        (_alive,),
    ),
)
"""For `make explore`: everything."""
