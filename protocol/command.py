"""Commands: what the fleet orders a car to do.

Each begins with the rental it belongs to and the state version that its sender saw, so
that an order for a rental that is over, or for a state that has changed, is refused
instead of acted on (protocol-design.md 1.2, step 11).
"""

from dataclasses import dataclass
from typing import Any, Final

from protocol.codes import (
    CancelReason,
    Code,
    HoldReason,
    Lane,
    LockDefault,
    LockMode,
    ModeRequest,
    Opcode,
)
from protocol.command_field import (
    CARDS_LIMIT,
    LANGUAGE,
    SEALED_LIMIT,
    for_rental,
)
from protocol.diagnosis import ExplainSubject
from protocol.errors import DecodeError
from protocol.layout import (
    ID,
    U8,
    U16,
    U64,
    Layout,
    bytes_up_to,
    code_of,
    ranged,
    reserved,
    sequence_of,
    text_up_to,
)
from protocol.rental_codes import Component
from protocol.rental_command import (
    GRANT,
    HANDOVER_OFFER,
    HANDOVER_REQUEST,
    PAYMENT_DECISION,
    SERVICE,
    SET_DEFAULT_MODE,
    Grant,
    HandoverOffer,
    HandoverRequest,
    PaymentDecision,
    Service,
    SetDefaultMode,
)

COMMAND_SCHEMA: Final = 1
"""Revision of every command payload of protocol version 1."""

ANY_VERSION: Final = 0xFFFF_FFFF
"""Expected state version of a sender that does not mind which."""

HAZARDS_LIMIT_S: Final = 30
"""Longest hazard blink in seconds (H16)."""

ARGUMENTS_LIMIT: Final = 4
"""Texts that a message can carry."""

ARGUMENT_LIMIT: Final = 32
"""Bytes of one of them in UTF-8."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """Open the doors; starts or resumes the rental that it names."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Close the doors, and park or end as `lock_mode` says."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    lock_mode: LockMode
    """Default, park, end or plain."""


@dataclass(frozen=True, slots=True)
class EngineRelease:
    """Let the engine start without a PIN at the car, or lift a PIN block."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    reason: HoldReason
    """Why."""


@dataclass(frozen=True, slots=True)
class EngineHold:
    """Keep the engine from starting; never acts on a moving car (I-2)."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    reason: HoldReason
    """Why."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Keep the car for one customer until an instant of the car's own clock (H1)."""

    rental_id: bytes
    """16 bytes, made by the fleet service."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    reserved_until_ms: int
    """The car's boot clock in this session, ms."""
    lock_default: LockDefault
    """The customer's default mode on locking (C28)."""
    language: bytes
    """Two lower-case letters of ISO 639-1."""
    cards: tuple[bytes, ...]
    """Up to 4 card digests, `protocol.identity.card_digest`."""
    sealed: bytes
    """`protocol.sealing.Secrets`, sealed to the car; may be empty."""


@dataclass(frozen=True, slots=True)
class CancelReservation:
    """Take a reservation back."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    reason: CancelReason
    """Who took it back."""


@dataclass(frozen=True, slots=True)
class SetMode:
    """Choose what the driver could choose at the display."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    request: ModeRequest
    """Park, resume, refuel, refuelling done or end."""


@dataclass(frozen=True, slots=True)
class FlashHazards:
    """Blink so that a customer finds the car (C6)."""

    rental_id: bytes
    """16 bytes; zeros for an operator's request."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    seconds: int
    """1 to 30 (H16)."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask for a signed sign of life; moves nothing."""

    rental_id: bytes
    """Zeros."""
    expected_version: int
    """`ANY_VERSION`."""
    nonce: bytes
    """16 bytes of the sender's."""


@dataclass(frozen=True, slots=True)
class UnlockAndEnable:
    """Open the doors and let the engine start without a PIN, in one order."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""


@dataclass(frozen=True, slots=True)
class LockAndDisable:
    """Hold the engine and close the doors, in one order (I-2)."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    lock_mode: LockMode
    """Default, park, end or plain."""


@dataclass(frozen=True, slots=True)
class ShowMessage:
    """Show the driver one of the texts that the car has."""

    rental_id: bytes
    """16 bytes; zeros for an operator's request."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    text_key: int
    """Which text; the car has it in the customer's language."""
    arguments: tuple[str, ...]
    """Up to 4, put into the text in their order."""
    seconds: int
    """How long, 1 to 255."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start one part of the gateway anew."""

    rental_id: bytes
    """16 bytes; zeros for an operator's request."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    component: Component
    """Which."""


@dataclass(frozen=True, slots=True)
class Reboot:
    """Start the computer anew; never in a moving car (I-2)."""

    rental_id: bytes
    """16 bytes; zeros for an operator's request."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""


@dataclass(frozen=True, slots=True)
class RequestSnapshot:
    """Ask for a result with the state of now; moves nothing."""

    rental_id: bytes
    """16 bytes; zeros for an operator's request."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Ask why the car did what it did last; moves nothing."""

    rental_id: bytes
    """16 bytes; zeros for an operator's."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""
    subject: ExplainSubject
    """What about."""
    about_id: bytes
    """16 bytes: for COMMAND that command's id; zeros for the newest of the kind."""


@dataclass(frozen=True, slots=True)
class RotateKey:
    """Ask the car to make itself a new signing key."""

    rental_id: bytes
    """Zeros."""
    expected_version: int
    """State version the sender saw, or `ANY_VERSION`."""


Command = (
    Unlock
    | Lock
    | EngineRelease
    | EngineHold
    | Reserve
    | CancelReservation
    | SetMode
    | FlashHazards
    | Ping
    | UnlockAndEnable
    | LockAndDisable
    | SetDefaultMode
    | PaymentDecision
    | HandoverOffer
    | HandoverRequest
    | Service
    | Grant
    | ShowMessage
    | Restart
    | Reboot
    | RequestSnapshot
    | Explain
    | RotateKey
)

UNLOCK: Final = Layout(Unlock, *for_rental())
LOCK: Final = Layout(
    Lock, *for_rental(), "lock_mode" / code_of(U8, LockMode), reserved(3)
)
ENGINE_RELEASE: Final = Layout(
    EngineRelease, *for_rental(), "reason" / code_of(U8, HoldReason), reserved(3)
)
ENGINE_HOLD: Final = Layout(
    EngineHold, *for_rental(), "reason" / code_of(U8, HoldReason), reserved(3)
)
RESERVE: Final = Layout(
    Reserve,
    *for_rental(),
    "reserved_until_ms" / U64,
    "lock_default" / code_of(U8, LockDefault),
    "language" / LANGUAGE,
    "cards" / sequence_of(ID, CARDS_LIMIT),
    "sealed" / bytes_up_to(SEALED_LIMIT),
)
CANCEL_RESERVATION: Final = Layout(
    CancelReservation, *for_rental(), "reason" / code_of(U8, CancelReason), reserved(3)
)
SET_MODE: Final = Layout(
    SetMode, *for_rental(), "request" / code_of(U8, ModeRequest), reserved(3)
)
FLASH_HAZARDS: Final = Layout(
    FlashHazards,
    *for_rental(),
    "seconds" / ranged(U8, 1, HAZARDS_LIMIT_S),
    reserved(3),
)
PING: Final = Layout(Ping, *for_rental(), "nonce" / ID)
UNLOCK_AND_ENABLE: Final = Layout(UnlockAndEnable, *for_rental())
LOCK_AND_DISABLE: Final = Layout(
    LockAndDisable, *for_rental(), "lock_mode" / code_of(U8, LockMode), reserved(3)
)
SHOW_MESSAGE: Final = Layout(
    ShowMessage,
    *for_rental(),
    "text_key" / U16,
    "arguments" / sequence_of(text_up_to(ARGUMENT_LIMIT), ARGUMENTS_LIMIT),
    "seconds" / ranged(U8, 1, 0xFF),
)
RESTART: Final = Layout(
    Restart, *for_rental(), "component" / code_of(U8, Component), reserved(3)
)
REBOOT: Final = Layout(Reboot, *for_rental())
SNAPSHOT: Final = Layout(RequestSnapshot, *for_rental())
EXPLAIN: Final = Layout(
    Explain,
    *for_rental(),
    "subject" / code_of(U8, ExplainSubject),
    reserved(3),
    "about_id" / ID,
)
ROTATE_KEY: Final = Layout(RotateKey, *for_rental())


SHORT_TTL_MS: Final = 10_000
"""Unlock, engine release, hazards, ping: somebody stands at the car and waits."""
MIDDLE_TTL_MS: Final = 30_000
"""Lock, hold, modes, restarts: late is harmless, but not by minutes."""
LONG_TTL_MS: Final = 60_000
"""Reserve, cancel, payments, handovers, grants: nobody need be at the car."""


@dataclass(frozen=True, slots=True)
class CommandRule:
    """What the protocol fixes about an opcode."""

    layout: Layout[Any]
    """Its payload; reads one of `Command`."""
    lane: Lane
    """The lane that orders it."""
    ttl_limit_ms: int
    """The longest life of such a command in ms (protocol-design.md 1.3)."""


COMMANDS: Final[dict[Opcode, CommandRule]] = {
    Opcode.UNLOCK: CommandRule(UNLOCK, Lane.ACCESS, SHORT_TTL_MS),
    Opcode.LOCK: CommandRule(LOCK, Lane.ACCESS, MIDDLE_TTL_MS),
    Opcode.ENGINE_RELEASE: CommandRule(ENGINE_RELEASE, Lane.ACCESS, SHORT_TTL_MS),
    Opcode.ENGINE_HOLD: CommandRule(ENGINE_HOLD, Lane.ACCESS, MIDDLE_TTL_MS),
    Opcode.RESERVE: CommandRule(RESERVE, Lane.RENTAL, LONG_TTL_MS),
    Opcode.CANCEL_RESERVATION: CommandRule(
        CANCEL_RESERVATION, Lane.RENTAL, LONG_TTL_MS
    ),
    Opcode.SET_MODE: CommandRule(SET_MODE, Lane.RENTAL, MIDDLE_TTL_MS),
    Opcode.FLASH_HAZARDS: CommandRule(FLASH_HAZARDS, Lane.SIGNALS, SHORT_TTL_MS),
    Opcode.PING: CommandRule(PING, Lane.DIAGNOSTICS, SHORT_TTL_MS),
    Opcode.UNLOCK_AND_ENABLE: CommandRule(UNLOCK_AND_ENABLE, Lane.ACCESS, SHORT_TTL_MS),
    Opcode.LOCK_AND_DISABLE: CommandRule(LOCK_AND_DISABLE, Lane.ACCESS, MIDDLE_TTL_MS),
    Opcode.SET_DEFAULT_MODE: CommandRule(SET_DEFAULT_MODE, Lane.RENTAL, LONG_TTL_MS),
    Opcode.PAYMENT_DECISION: CommandRule(PAYMENT_DECISION, Lane.RENTAL, LONG_TTL_MS),
    Opcode.HANDOVER_OFFER: CommandRule(HANDOVER_OFFER, Lane.RENTAL, LONG_TTL_MS),
    Opcode.HANDOVER_REQUEST: CommandRule(HANDOVER_REQUEST, Lane.RENTAL, LONG_TTL_MS),
    Opcode.SERVICE: CommandRule(SERVICE, Lane.RENTAL, LONG_TTL_MS),
    Opcode.GRANT: CommandRule(GRANT, Lane.RENTAL, LONG_TTL_MS),
    Opcode.SHOW_MESSAGE: CommandRule(SHOW_MESSAGE, Lane.SIGNALS, LONG_TTL_MS),
    Opcode.RESTART: CommandRule(RESTART, Lane.DIAGNOSTICS, MIDDLE_TTL_MS),
    Opcode.REBOOT: CommandRule(REBOOT, Lane.DIAGNOSTICS, MIDDLE_TTL_MS),
    Opcode.SNAPSHOT: CommandRule(SNAPSHOT, Lane.DIAGNOSTICS, SHORT_TTL_MS),
    Opcode.EXPLAIN: CommandRule(EXPLAIN, Lane.DIAGNOSTICS, SHORT_TTL_MS),
    Opcode.ROTATE_KEY: CommandRule(ROTATE_KEY, Lane.TRUST, LONG_TTL_MS),
}
"""Every opcode of version 1: its payload, its lane and the cap of its life."""

OPCODE_OF: Final[dict[type[object], Opcode]] = {
    rule.layout.record: opcode for opcode, rule in COMMANDS.items()
}
"""The opcode of each command record."""


def parse_command(opcode: int, schema: int, payload: bytes) -> Command:
    """Decode a verified command's payload.

    Raises:
        DecodeError: UNKNOWN_OPCODE, UNSUPPORTED_SCHEMA, BAD_PARAM or NON_CANONICAL;
            the command must be refused whole.
    """
    try:
        rule = COMMANDS[Opcode(opcode)]
    except ValueError:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"opcode 0x{opcode:04X} is not known"
        ) from None
    if schema != COMMAND_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {schema} of {Opcode(opcode).name}, this reads {COMMAND_SCHEMA}",
        )
    command: Command = rule.layout.parse(payload)
    return command


def build_command(command: Command) -> bytes:
    """Encode a command's payload.

    Raises:
        EncodeError: a value does not fit its field.
    """
    return COMMANDS[OPCODE_OF[type(command)]].layout.build(command)
