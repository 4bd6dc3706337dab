"""What can happen to a car, as the exploration tries it: alphabets small and large."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.events import (
    AgentStarted,
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
    CardPresented,
    CommandReceived,
    DeadlineReached,
    DiskFailed,
    DiskRecovered,
    Event,
    MenuChosen,
    PinChecked,
    PinVerdict,
    ReaderLost,
    ReaderRecovered,
    UpdateBegan,
    UpdateEnded,
)
from gateway.core.prompts import Choice
from gateway.core.state import State
from gateway.core.vehicle import next_deadline
from protocol.codes import LockDefault, LockMode, ModeRequest
from protocol.command import ANY_VERSION, COMMANDS, OPCODE_OF, Command
from protocol.identity import card_digest
from protocol.rental_codes import GrantAction, Rights, ServiceRequest
from protocol.rental_command import Grant, Service
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.scene import (
    CARD,
    FIRMWARE,
    OTHER_RENTAL,
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

Take = Callable[[State, int], tuple[Event, int]]
"""Makes the event of a state and the instant at which it comes."""


@dataclass(frozen=True)
class Step:
    """One thing that can happen."""

    name: str
    take: Take


def _now(name: str, event: Event) -> Step:
    return Step(name, lambda _state, now_ms: (event, now_ms))


def _reports(name: str, **changes: object) -> Step:
    reading = replace(RESTING, **changes)  # type: ignore[arg-type] # by name
    return _now(f"board: {name}", BoardReported(reading))


def _order(name: str, command: Command) -> Step:
    event = CommandReceived(
        command=command,
        msg_id=bytes(15) + b"\1",
        request_hash=bytes(31) + b"\1",
        key_id=bytes(8),
        lane=COMMANDS[OPCODE_OF[type(command)]].lane,
        seq=1,
    )
    return _now(f"order: {name}", event)


def _reserves(now_ms: int) -> Event:
    command = reserve(now_ms + 900_000, cards=(CARD,))
    return CommandReceived(
        command=command,
        msg_id=bytes(15) + b"\1",
        request_hash=bytes(31) + b"\1",
        key_id=bytes(8),
        lane=COMMANDS[OPCODE_OF[type(command)]].lane,
        seq=1,
    )


def _service(now_ms: int) -> Event:
    until_ms = now_ms + 3_600_000
    command = Service(NO_RENTAL, ANY_VERSION, ServiceRequest.ON, until_ms)
    return CommandReceived(
        command=command,
        msg_id=bytes(15) + b"\1",
        request_hash=bytes(31) + b"\1",
        key_id=bytes(8),
        lane=COMMANDS[OPCODE_OF[type(command)]].lane,
        seq=1,
    )


def _deadline(state: State, now_ms: int) -> tuple[Event, int]:
    due_ms = next_deadline(state)
    return DeadlineReached(), now_ms if due_ms is None else max(now_ms, due_ms)


def _pass(seconds: int) -> Step:
    return Step(
        f"{seconds} s pass",
        lambda _state, now_ms: (DeadlineReached(), now_ms + seconds * 1_000),
    )


def _grant(uid: bytes, rights: Rights, number: int) -> Grant:
    rental_id = OTHER_RENTAL[:-1] + bytes([number])
    return Grant(
        rental_id=rental_id,
        expected_version=ANY_VERSION,
        action=GrantAction.ADD,
        grant_id=bytes(15) + bytes([number]),
        card=card_digest(rental_id, uid),
        not_before_wall_ms=START_WALL_MS - 1,
        not_after_wall_ms=START_WALL_MS + 1,
        rights=rights,
        lock_default=LockDefault.PARK,
        language=b"en",
        sealed=SEALED,
    )


_CUSTOMER_GRANT: Final = _grant(SECOND_CARD, Rights.UNLOCK | Rights.DRIVE, 1)
_SERVICE_GRANT: Final = _grant(SECOND_CARD, Rights.UNLOCK | Rights.SERVICE, 2)

_DRIVES: Final = {"engine_running": True, "ignition_on": True, "speed_dkmh": 300}

_TIME: Final = (Step("the next deadline", _deadline), _pass(6))

SHORT: Final = (
    *_TIME,
    _reports("locked, still, engine held"),
    _reports("open, still, engine held", locked=False),
    _reports("open, still, engine released", locked=False, engine_released=True),
    _reports("open, driving", locked=False, engine_released=True, **_DRIVES),
    _reports("open, a door open", locked=False, door_open=True),
    _now("the customer's card", CardPresented(CARD)),
    _now("the right PIN", PinChecked(RENTAL, PinVerdict.RIGHT)),
    _now("choose to park", MenuChosen(Choice.PARK)),
    Step("order: reserve", lambda _state, now_ms: (_reserves(now_ms), now_ms)),
    _order("lock to end", lock(LockMode.END)),
)
"""For each run of the tests: seconds."""

HOLD: Final = _order("hold the engine", hold())
STRANGERS_TAP: Final = _now("a stranger's card", CardPresented(STRANGER))

DEEP: Final = (
    *SHORT,
    _reports("locked, still, engine released", engine_released=True),
    _reports("locked, driving", engine_released=True, **_DRIVES),
    _reports("locked, driving, engine held", **_DRIVES),
    _reports("open, driving, engine held", locked=False, **_DRIVES),
    _order("unlock", unlock()),
    _order("give the second card a grant", _CUSTOMER_GRANT),
    _now("the agent restarts", AgentStarted(2, FIRMWARE, same_boot=True)),
    _now("the machine restarts", AgentStarted(2, FIRMWARE, same_boot=False)),
    _reports("locked, a door open", door_open=True),
    _reports("open, key missing", locked=False, key_present=False),
    _reports("open, ignition on", locked=False, ignition_on=True),
    _reports("open, speed unknown", locked=False, speed_dkmh=None),
    _reports("locked, rolling", speed_dkmh=10),
    _pass(1),
    _pass(3),
    HOLD,
    STRANGERS_TAP,
    _order("give the second card a service grant", _SERVICE_GRANT),
    _now("a second card", CardPresented(SECOND_CARD)),
    _now("a wrong PIN", PinChecked(RENTAL, PinVerdict.WRONG)),
    _now("choose to end", MenuChosen(Choice.END)),
    _now("choose to refuel", MenuChosen(Choice.REFUEL)),
    _now("refuelled", MenuChosen(Choice.REFUEL_DONE)),
    _now("look around", MenuChosen(Choice.CONTINUE)),
    _order("lock by default", lock(LockMode.DEFAULT)),
    _order("lock to park", lock(LockMode.PARK)),
    _order("release the engine", release()),
    _order("cancel", cancel()),
    _order("refuel", set_mode(ModeRequest.REFUEL)),
    Step("order: service", lambda _state, now_ms: (_service(now_ms), now_ms)),
    _order("no service", Service(NO_RENTAL, ANY_VERSION, ServiceRequest.OFF, 0)),
    _now("the board is silent", BoardLost()),
    _now("the board refuses the locks", BoardRefused(BoardRefusal.FAULT)),
    _now("the board refuses the engine", BoardRefused(BoardRefusal.MOVING, True)),
    _now("the reader is gone", ReaderLost()),
    _now("the reader is back", ReaderRecovered()),
    _now("the disk fails", DiskFailed()),
    _now("the disk is back", DiskRecovered()),
    _now("an update begins", UpdateBegan()),
    _now("an update ends", UpdateEnded()),
)
"""For `make explore`: minutes to hours, or until a limit."""
