"""What gateway and board say to each other (docs/board-protocol.md, section 3).

Every order names a state to reach and not a change to make ("bolts closed", not
"toggle"), so that an order that arrives twice is harmless. The board checks the physics
again at the instant it acts (I-1, I-2): the gateway's own check is courtesy.
"""

from dataclasses import dataclass
from enum import unique
from typing import Final, TypeAlias

import construct as cs

from protocol.codes import KNOWN_BITS, Bits, CodeSpace, EnergyKind, Light
from protocol.errors import EncodeError
from protocol.layout import (
    PERCENT,
    U8,
    U16,
    U32,
    Layout,
    Subcon,
    code_of,
    flags_of,
    measured,
    ranged,
    sequence_of,
)

FROM_BOARD: Final = 0x80
"""Bit 7 of the message type: set on everything that the board says."""

TROUBLE_CODES_LIMIT: Final = 8
"""Trouble codes that a board tells: a workshop reads the rest."""

MAX_HAZARD_S: Final = 30
"""Longest hazard flashing in seconds (H16)."""

REPORTED_BITS: Final = KNOWN_BITS & ~int(Bits.MOVING)
"""What a board reports as flags; moving follows from the speed (I-2)."""

FIRMWARE_SIZE: Final = 4
"""Bytes of a firmware version: major, minor, patch, 0."""


@unique
class MessageType(CodeSpace):
    """First byte of a frame; numbers are never used again for another meaning."""

    SET_LOCKS = 0x01
    ALLOW_ENGINE = 0x02
    SET_LIGHT = 0x03
    FLASH_HAZARDS = 0x04
    QUERY_STATE = 0x05
    HEARTBEAT = 0x06
    ACK = 0x81
    REFUSED = 0x82
    STATE = 0x83
    SENSORS = 0x84

    @property
    def from_board(self) -> bool:
        """Whether the board says it."""
        return bool(self.value & FROM_BOARD)

    @property
    def numbered(self) -> bool:
        """Whether its frame carries the sequence number of an order."""
        return self not in _UNNUMBERED


_UNNUMBERED: Final = frozenset(
    {
        MessageType.QUERY_STATE,
        MessageType.HEARTBEAT,
        MessageType.STATE,
        MessageType.SENSORS,
    }
)


@unique
class RefusalReason(CodeSpace):
    """Why a board does not actuate."""

    DOOR_OPEN = 1
    MOVING = 2
    ENGINE_RUNNING = 3
    LOW_VOLTAGE = 4
    FAULT = 5


@unique
class Plug(CodeSpace):
    """Whether the charging cable is in the car's socket (H13)."""

    UNKNOWN = 0
    OUT = 1
    IN = 2


@unique
class Tyres(CodeSpace):
    """Which tyres are on the car."""

    UNKNOWN = 0
    SUMMER = 1
    WINTER = 2
    ALL_SEASON = 3


@dataclass(frozen=True, slots=True)
class SetLocks:
    """Order: move the bolts of all doors."""

    locked: bool
    """Close them, or open them."""


@dataclass(frozen=True, slots=True)
class AllowEngine:
    """Order: release or hold the engine's start."""

    released: bool
    """Release it, or hold it."""


@dataclass(frozen=True, slots=True)
class SetLight:
    """Order: set the indicator behind the windscreen."""

    light: Light
    """Which light."""
    blinking: bool
    """Whether it blinks."""


@dataclass(frozen=True, slots=True)
class FlashHazards:
    """Order: let the hazard lights blink."""

    seconds: int
    """1 to 30 (H16)."""


@dataclass(frozen=True, slots=True)
class QueryState:
    """Ask for a `State` at once; opens the conversation."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The agent is alive; sent every second."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The order of this number passed the board's checks and is being carried out.

    It is not the read-back: that is the next `State`.
    """


@dataclass(frozen=True, slots=True)
class Refused:
    """The order of this number was not carried out."""

    reason: RefusalReason
    """Why."""


@dataclass(frozen=True, slots=True)
class State:
    """The physical state, read back from switches and sensors and not assumed."""

    firmware: bytes
    """4 bytes: major, minor, patch, 0."""
    boot_count: int
    """u16: how often the board has started; wraps."""
    uptime_s: int
    """u32: seconds since it started."""
    last_seq: int
    """u8: number of the last order it answered since it started, 0 for none."""
    energy_kind: EnergyKind
    """What `energy_pct` is a level of."""
    bits: Bits
    """Switches; never MOVING, which follows from the speed."""
    speed_dkmh: int | None
    """Tenths of km/h, 0 to 65 534; None when unknown, which counts as moving (I-2)."""
    odometer_m: int | None
    """Distance ever driven, m."""
    energy_pct: int | None
    """Fuel or charge, 0 to 100."""
    washer_pct: int | None
    """Washer fluid, 0 to 100."""
    range_km: int | None
    """Residual range."""
    supply_mv: int | None
    """12 V supply."""


@dataclass(frozen=True, slots=True)
class Sensors:
    """What changes slowly: plug, wear, service and trouble codes (C29, C30, H13).

    A board that measures none of it never sends one, and nothing is known then.
    """

    plug: Plug
    """The charging cable; UNKNOWN in a car without a socket."""
    tyres: Tyres
    """Which are on."""
    tread_dmm: int | None
    """The shallowest tread, tenths of a millimetre, 0 to 254."""
    oil_pct: int | None
    """Life of the oil that is left, 0 to 100."""
    brake_pct: int | None
    """Thickness of the thinnest brake pad that is left, 0 to 100."""
    service_km: int | None
    """To the next periodic service, km; 0 when it is due."""
    service_days: int | None
    """To the next periodic service, days; 0 when it is due."""
    trouble_codes: tuple[int, ...]
    """Up to 8 diagnostic trouble codes as 16 bits (SAE J2012), the newest first."""


Order: TypeAlias = SetLocks | AllowEngine | SetLight | FlashHazards
"""What the gateway orders: numbered, answered by `Ack` or `Refused`."""

Message: TypeAlias = Order | QueryState | Heartbeat | Ack | Refused | State | Sensors
"""Everything that is said."""


@dataclass(frozen=True, slots=True)
class BoardFrame:
    """A message and its number."""

    seq: int
    """1 to 255 for an order and its answer; 0 for all others."""
    message: Message
    """What is said."""

    def __str__(self) -> str:
        number = f" #{self.seq}" if self.seq else ""
        return f"{self.message}{number}"


def _flag(name: str) -> Subcon:
    return name / cs.Flag


LAYOUTS: Final[dict[MessageType, Layout[Message]]] = {
    MessageType.SET_LOCKS: Layout[Message](SetLocks, _flag("locked")),
    MessageType.ALLOW_ENGINE: Layout[Message](AllowEngine, _flag("released")),
    MessageType.SET_LIGHT: Layout[Message](
        SetLight, "light" / code_of(U8, Light), _flag("blinking")
    ),
    MessageType.FLASH_HAZARDS: Layout[Message](
        FlashHazards, "seconds" / ranged(U8, 1, MAX_HAZARD_S)
    ),
    MessageType.QUERY_STATE: Layout[Message](QueryState),
    MessageType.HEARTBEAT: Layout[Message](Heartbeat),
    MessageType.ACK: Layout[Message](Ack),
    MessageType.REFUSED: Layout[Message](
        Refused, "reason" / code_of(U8, RefusalReason)
    ),
    MessageType.STATE: Layout[Message](
        State,
        "firmware" / cs.Bytes(FIRMWARE_SIZE),
        "boot_count" / U16,
        "uptime_s" / U32,
        "last_seq" / U8,
        "energy_kind" / code_of(U8, EnergyKind),
        "bits" / flags_of(U16, Bits, REPORTED_BITS),
        "speed_dkmh" / measured(U16, 0xFFFF),
        "odometer_m" / measured(U32, 0xFFFF_FFFF),
        "energy_pct" / PERCENT,
        "washer_pct" / PERCENT,
        "range_km" / measured(U16, 0xFFFF),
        "supply_mv" / measured(U16, 0xFFFF),
    ),
    MessageType.SENSORS: Layout[Message](
        Sensors,
        "plug" / code_of(U8, Plug),
        "tyres" / code_of(U8, Tyres),
        "tread_dmm" / measured(U8, 0xFF),
        "oil_pct" / PERCENT,
        "brake_pct" / PERCENT,
        "service_km" / measured(U16, 0xFFFF),
        "service_days" / measured(U16, 0xFFFF),
        "trouble_codes" / sequence_of(U16, TROUBLE_CODES_LIMIT),
    ),
}
"""The payload of each message type; `State` and `Sensors` are the longest, 26 bytes."""

_TYPES: Final = {layout.record: kind for kind, layout in LAYOUTS.items()}


def type_of(message: Message) -> MessageType:
    """Return the type byte of a message."""
    return _TYPES[type(message)]


def check_seq(kind: MessageType, seq: int) -> None:
    """Refuse a number that a message of this type cannot have.

    Raises:
        EncodeError: an order without a number, or a number where none belongs.
    """
    low, high = (1, 0xFF) if kind.numbered else (0, 0)
    if not low <= seq <= high:
        raise EncodeError(f"{kind.name}: sequence {seq} not in {low} to {high}")
