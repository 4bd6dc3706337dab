"""The code spaces of protocol version 1.

Numbers are never used again for another meaning (docs/protocol.md, evolution). Each
member prints its number and its name, as engineers read both in logs and captures.
"""

from enum import IntEnum, IntFlag, unique
from typing import Final


class CodeSpace(IntEnum):
    """An enumeration whose members print as ``0x0101 UNLOCK``."""

    def __str__(self) -> str:
        return f"0x{self.value:02X} {self.name}"


DIRECTION_UP: Final = 0x80
"""Bit 7 of the frame class: set on everything that a vehicle signs."""


@unique
class FrameClass(CodeSpace):
    """What kind of frame; bit 7 is the direction (protocol-design.md 1)."""

    CMD = 0x01
    RECEIPT = 0x02
    SYNC = 0x03
    TRUST = 0x04
    RESULT = 0x81
    EVENT = 0x82
    TELEM = 0x83
    HELLO = 0x84
    DEATH = 0x85

    @property
    def label(self) -> str:
        """The class's name in topics and in the signed prefix."""
        return str(self._name_).lower()

    @property
    def from_vehicle(self) -> bool:
        """Whether a vehicle signs frames of this class."""
        return bool(self & DIRECTION_UP)


@unique
class Suite(CodeSpace):
    """How a frame is signed; never negotiated (protocol-design.md 6)."""

    ED25519 = 1
    P256 = 2


@unique
class Lane(CodeSpace):
    """Commands are ordered inside a lane and independent between lanes."""

    TRUST = 0
    ACCESS = 1
    RENTAL = 2
    SIGNALS = 3
    DIAGNOSTICS = 4


@unique
class Opcode(CodeSpace):
    """What a command asks for; the high byte names the group."""

    UNLOCK = 0x0101
    LOCK = 0x0102
    ENGINE_RELEASE = 0x0103
    ENGINE_HOLD = 0x0104
    UNLOCK_AND_ENABLE = 0x0105
    LOCK_AND_DISABLE = 0x0106
    RESERVE = 0x0201
    CANCEL_RESERVATION = 0x0202
    SET_MODE = 0x0203
    SET_DEFAULT_MODE = 0x0204
    PAYMENT_DECISION = 0x0205
    HANDOVER_OFFER = 0x0206
    HANDOVER_REQUEST = 0x0207
    SERVICE = 0x0208
    GRANT = 0x0209
    FLASH_HAZARDS = 0x0301
    SHOW_MESSAGE = 0x0302
    PING = 0x0401
    RESTART = 0x0402
    REBOOT = 0x0403
    SNAPSHOT = 0x0404
    EXPLAIN = 0x040A
    ROTATE_KEY = 0x0501

    def __str__(self) -> str:
        return f"0x{self.value:04X} {self.name}"


@unique
class EventType(CodeSpace):
    """What happened; entries of the vehicle's ledger."""

    RESERVATION_STARTED = 0x8101
    RESERVATION_EXPIRED = 0x8102
    RESERVATION_CANCELLED = 0x8103
    ACCESS_GRANTED = 0x8104
    RENTAL_STARTED = 0x8105
    CARD_REFUSED = 0x8106
    PIN_BLOCKED = 0x8107
    PIN_ACCEPTED = 0x8108
    ENGINE_RELEASED = 0x8109
    PARKED = 0x810A
    RESUMED = 0x810B
    REFUEL_STARTED = 0x810C
    REFUEL_ENDED = 0x810D
    FUEL_PAID_BY_CARD = 0x810E
    RENTAL_ENDED = 0x810F
    FAULT_RAISED = 0x8110
    FAULT_CLEARED = 0x8111
    ENGINE_STARTED = 0x8112
    ENGINE_STOPPED = 0x8113
    AGENT_STARTED = 0x8114
    ENERGY_LOW = 0x8115
    INSPECTION_DONE = 0x8116
    DAMAGE_REPORTED = 0x8117
    CLEANLINESS_RATED = 0x8118
    PAYMENT_REQUESTED = 0x8119
    PAYMENT_DECIDED = 0x811A
    HANDOVER_OFFERED = 0x811B
    HANDOVER_ACCEPTED = 0x811C
    HANDOVER_DONE = 0x811D
    SERVICE_NEEDED = 0x811E
    SERVICE_CLEARED = 0x811F
    TAMPER = 0x8120
    CONFIGURATION_ACTIVATED = 0x8121
    CONFIGURATION_REFUSED = 0x8122
    KEY_ROTATED = 0x8123
    LEDGER_RESET = 0x8124
    TRUST_CHANGED = 0x8125
    GRANT_CHANGED = 0x8126
    SERVICE_MODE = 0x8127
    DIAGNOSED = 0x8128
    HANDOVER_PLANNED = 0x8129

    def __str__(self) -> str:
        return f"0x{self.value:04X} {self.name}"


@unique
class SyncType(CodeSpace):
    """What a SYNC frame asks of a car or tells it; masks of keys name these too."""

    RESEND = 0x0405
    CONFIG = 0x0406
    CONFIG_CHUNK = 0x0407
    CHALLENGE = 0x0408
    TIME = 0x0409

    def __str__(self) -> str:
        return f"0x{self.value:04X} {self.name}"


@unique
class FrameType(CodeSpace):
    """The type field of the classes that are no command, event or synchronisation."""

    RECEIPT = 0x0001
    TRUST = 0x0005
    RESULT = 0x8001
    TELEMETRY = 0x8201
    PLACE = 0x8202
    HELLO = 0x8301
    DEATH = 0x8302

    def __str__(self) -> str:
        return f"0x{self.value:04X} {self.name}"


@unique
class Code(CodeSpace):
    """How something ended, or why it was refused (protocol-design.md 2)."""

    OK = 0x0000
    ALREADY_IN_STATE = 0x0001
    ACCEPTED = 0x0002
    IN_PROGRESS = 0x0003
    # 0x01xx: the signature is good, its owner may not do this
    KEY_EXPIRED = 0x0101
    ROLE_FORBIDDEN = 0x0102
    OPCODE_FORBIDDEN = 0x0103
    GROUP_MISMATCH = 0x0104
    # 0x02xx: not fresh
    SESSION_STALE = 0x0201
    EXPIRED = 0x0202
    TTL_TOO_LONG = 0x0203
    SUPERSEDED = 0x0204
    ID_REUSED = 0x0205
    TRUST_TOO_OLD = 0x0206
    # 0x03xx: not understood
    UNKNOWN_OPCODE = 0x0301
    UNSUPPORTED_SCHEMA = 0x0302
    BAD_PARAM = 0x0303
    NON_CANONICAL = 0x0304
    TOO_LARGE = 0x0305
    RETAINED = 0x0306
    BAD_HASH = 0x0307
    # 0x04xx: understood, the car's state does not allow it
    VEHICLE_MOVING = 0x0401
    NOT_PARKED = 0x0402
    IGNITION_ON = 0x0403
    DOOR_OPEN = 0x0404
    WRONG_RENTAL = 0x0405
    STATE_VERSION = 0x0406
    KEY_OR_CARD_MISSING = 0x0407
    LOW_VOLTAGE = 0x0408
    OUT_OF_ZONE = 0x0409
    WRONG_MODE = 0x040A
    PIN_REQUIRED = 0x040B
    # 0x05xx: tried
    BUSY = 0x0501
    ACTUATOR_TIMEOUT = 0x0502
    ACTUATOR_FAULT = 0x0503
    BUS_ERROR = 0x0504
    INTERNAL = 0x0505
    INDETERMINATE_AFTER_REBOOT = 0x0506
    CANCELLED = 0x0507
    TOO_LATE_TO_CANCEL = 0x0508
    # 0x06xx: no room
    QUEUE_FULL = 0x0601
    RATE_LIMITED = 0x0602
    STORAGE_FULL = 0x0603
    STORAGE_CORRUPT = 0x0604
    CONFIG_INCOMPLETE = 0x0605
    # 0x07xx: local only, never sent: answering would help a forger
    BAD_MAGIC = 0x0701
    BAD_VERSION = 0x0702
    BAD_LEN = 0x0703
    WRONG_VEHICLE = 0x0704
    WRONG_DIRECTION = 0x0705
    SUITE_FORBIDDEN = 0x0706
    UNKNOWN_KEY = 0x0707
    REVOKED = 0x0708
    BAD_SIGNATURE = 0x0709
    BAD_CLASS = 0x070A
    CRITICAL_FLAG = 0x070B

    def __str__(self) -> str:
        return f"0x{self.value:04X} {self.name}"

    @property
    def local_only(self) -> bool:
        """Whether this refusal is counted but never answered."""
        return 0x0700 <= self.value < 0x0800  # noqa: PLR2004 - the range is the rule

    @property
    def succeeded(self) -> bool:
        """Whether the wanted state is known to hold."""
        return self in {Code.OK, Code.ALREADY_IN_STATE}


@unique
class Executed(CodeSpace):
    """Whether a command moved anything, as far as the car can know."""

    NO = 0
    YES = 1
    MAYBE = 2


@unique
class Retry(CodeSpace):
    """What the sender of a command may do next."""

    NEVER = 0
    SAME_BYTES = 1
    NEW_COMMAND = 2
    AFTER_RESYNC = 3
    AFTER_USER_ACTION = 4


@unique
class ClockQuality(CodeSpace):
    """How far a wall-clock label can be trusted (protocol-design.md 1.3)."""

    UNSET = 0
    RTC = 1
    SYNC = 2
    NTP = 3
    GNSS = 4

    @property
    def trusted(self) -> bool:
        """Whether grants and dates may be judged by this clock."""
        return self >= ClockQuality.SYNC


@unique
class Role(CodeSpace):
    """What a key of the trust bundle may sign."""

    RENTAL = 1
    OPERATIONS = 2
    SERVICE = 3
    MONITOR = 4
    RECEIPT = 5
    REVOKE = 6

    @property
    def commands(self) -> bool:
        """Whether such a key may sign commands and synchronisation."""
        return self in {Role.RENTAL, Role.OPERATIONS, Role.SERVICE}


@unique
class ConfigKind(CodeSpace):
    """What a configuration is about; versions rise for each kind by itself."""

    STATIONS = 1
    KNOWN_DAMAGE = 2
    BUSINESS_AREA = 3
    GRANTS = 4
    POLICY = 5


@unique
class DeathReason(CodeSpace):
    """How a connection of a car ended."""

    LOST = 0
    STOPPED = 1


@unique
class RentalMode(CodeSpace):
    """The rental axis of a car's state; `STOPPED` and `DRIVING` are "rented"."""

    AVAILABLE = 0
    RESERVED = 1
    STOPPED = 2
    DRIVING = 3
    PARKED = 4
    REFUELLING = 5

    @property
    def in_rental(self) -> bool:
        """Whether somebody pays by the minute."""
        return self >= RentalMode.STOPPED


@unique
class Condition(CodeSpace):
    """The technical axis of a car's state."""

    OK = 0
    DEGRADED = 1
    FAULT = 2
    SERVICE = 3
    UPDATE = 4


@unique
class Light(CodeSpace):
    """The indicator behind the windscreen (H15)."""

    OFF = 0
    GREEN = 1
    YELLOW = 2
    RED = 3
    BLUE = 4
    FAULT_PATTERN = 5


@unique
class LockMode(CodeSpace):
    """What locking means for the rental."""

    DEFAULT = 0
    PARK = 1
    END = 2
    PLAIN = 3


@unique
class LockDefault(CodeSpace):
    """The customer's default when nothing was chosen (C28, H8)."""

    END = 0
    PARK = 1


@unique
class ModeRequest(CodeSpace):
    """What SET_MODE asks for."""

    PARK = 1
    RESUME = 2
    REFUEL = 3
    REFUEL_DONE = 4
    END = 5


@unique
class AccessMeans(CodeSpace):
    """By what the doors were opened or locked."""

    CARD = 1
    COMMAND = 2


@unique
class CardRefusal(CodeSpace):
    """Why a card was refused."""

    NO_RESERVATION = 1
    NOT_FOR_THIS_RENTAL = 2
    ENGINE_RUNNING = 3
    DOOR_OPEN = 4
    NOT_READY = 5
    UNSUPPORTED_CARD = 6


@unique
class CancelReason(CodeSpace):
    """Why a reservation was taken back."""

    CUSTOMER = 1
    OPERATOR = 2


@unique
class HoldReason(CodeSpace):
    """Why an engine is released or held by command."""

    RENTAL = 1
    OPERATOR = 2
    PIN_BLOCK_LIFTED = 3


@unique
class EndReason(CodeSpace):
    """Why a rental ended."""

    CARD = 1
    COMMAND = 2
    HANDOVER = 3


@unique
class FaultKind(CodeSpace):
    """What stopped working."""

    LOCK_NO_READBACK = 1
    ENGINE_NO_READBACK = 2
    BOARD_SILENT = 3
    READER_GONE = 4
    LOCK_REFUSED = 5
    ENGINE_REFUSED = 6
    STORAGE_FAILED = 7
    TRUST_EXPIRED = 8
    RESTART_STORM = 9
    LEDGER_LOST = 10


@unique
class PaidBy(CodeSpace):
    """How fuel was paid."""

    UNKNOWN = 0
    FUEL_CARD = 1
    ONLINE = 2


@unique
class EnergyKind(CodeSpace):
    """What the car runs on (H13)."""

    FUEL = 1
    ELECTRIC = 2


class HelloFlags(IntFlag):
    """What a car wants its fleet to notice."""

    BUNDLE_EXPIRED = 0x01
    SERVICE_MODE = 0x02
    LEDGER_WAS_RESET = 0x04


KNOWN_HELLO_FLAGS: Final = 0x07
"""Flags of `HelloFlags` that version 1 defines; others are reserved and zero."""


class Bits(IntFlag):
    """Physical state in one bit field; used by snapshots, telemetry and reports."""

    LOCKED = 0x0001
    DOOR_OPEN = 0x0002
    BOOT_OPEN = 0x0004
    ENGINE_RUNNING = 0x0008
    ENGINE_RELEASED = 0x0010
    IGNITION_ON = 0x0020
    MOVING = 0x0040
    LIGHTS_ON = 0x0080
    KEY_PRESENT = 0x0100
    FUEL_CARD_PRESENT = 0x0200
    HAZARDS_ON = 0x0400
    WINDOW_OPEN = 0x0800


KNOWN_BITS: Final = 0x0FFF
"""Bits of `Bits` that version 1 defines; others are reserved and zero."""
