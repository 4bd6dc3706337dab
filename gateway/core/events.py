"""Events: what happened to the car, in the past tense.

The shell makes them from devices, frames and timers; `gateway.core.vehicle.handle`
takes one at a time. What goes into the ledger is another thing: `protocol.event`.
"""

from dataclasses import dataclass
from enum import Enum, unique

from gateway.core.prompts import Choice
from gateway.core.reading import Position, Reading
from gateway.core.room import Room
from protocol.codes import Lane
from protocol.command import Command
from protocol.event import EventBody
from protocol.rental_codes import DamageKind, DamagePlace
from protocol.rental_event import NO_PHOTO
from protocol.vehicle_event import LedgerReset


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """The agent began to run with the state that was last committed."""

    boot_counter: int
    """How often it has started, from 1."""
    firmware: bytes
    """4 bytes: major, minor, patch, 0."""
    same_boot: bool
    """Whether the machine kept running, so that instants in the state still hold."""


@dataclass(frozen=True, slots=True)
class CardPresented:
    """A card was held to the windscreen."""

    uid: bytes
    """4, 7 or 10 bytes (ISO/IEC 14443-3, 6.5.4)."""


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A command passed steps 1 to 10 of the acceptance pipeline."""

    command: Command
    """What is ordered."""
    msg_id: bytes
    """16 bytes: the command's id."""
    request_hash: bytes
    """32 bytes: the hash of its frame."""
    key_id: bytes
    """8 bytes: who signed."""
    lane: Lane
    """Its lane."""
    seq: int
    """Its place in that lane."""
    new_key: bytes = b""
    """For ROTATE_KEY: the raw public key that the car made; empty if it cannot."""


@dataclass(frozen=True, slots=True)
class BoardReported:
    """The board reported the car's physical state."""

    reading: Reading
    """All of it."""


@dataclass(frozen=True, slots=True)
class BoardRefused:
    """The board refused an actuation: its own check of the physics failed (I-1)."""

    reason: "BoardRefusal"
    """Why."""
    of_engine: bool = False
    """Whether the engine's order was refused, and not that of the locks."""


@unique
class BoardRefusal(Enum):
    """Why a board does not actuate."""

    DOOR_OPEN = "door open"
    MOVING = "vehicle moving"
    ENGINE_RUNNING = "engine running"
    LOW_VOLTAGE = "supply voltage low"
    FAULT = "actuator fault"


@dataclass(frozen=True, slots=True)
class BoardLost:
    """The board has been silent for too long; its last reading counts no more."""


@dataclass(frozen=True, slots=True)
class ReaderLost:
    """The card reader does not answer."""


@dataclass(frozen=True, slots=True)
class ReaderRecovered:
    """The card reader answers again."""


@dataclass(frozen=True, slots=True)
class PinEntered:
    """The driver typed a PIN and confirmed."""

    pin: str
    """As typed; never stored, never logged."""

    def __repr__(self) -> str:
        return "PinEntered(...)"


@dataclass(frozen=True, slots=True)
class PinChecked:
    """The memory-hard comparison asked for by `CheckPin` is done."""

    rental_id: bytes
    """The rental that it was asked for."""
    verdict: "PinVerdict"
    """What came out."""


@unique
class PinVerdict(Enum):
    """What the comparison of a PIN can say."""

    RIGHT = "right"
    WRONG = "wrong"
    UNREADABLE = "sealed secrets do not open"


@dataclass(frozen=True, slots=True)
class MenuChosen:
    """The driver chose at the display."""

    choice: Choice
    """What."""


@dataclass(frozen=True, slots=True)
class RatingEntered:
    """The driver rated how clean the car is (C9)."""

    inside: int
    """Stars, 1 to 5."""
    outside: int
    """Stars, 1 to 5."""


@dataclass(frozen=True, slots=True)
class DamageEntered:
    """The driver described a damage and confirmed (C10)."""

    place: DamagePlace
    """Where on the car."""
    kind: DamageKind
    """What it is."""
    note: str = ""
    """The driver's words; up to 200 bytes in UTF-8."""
    photo_hash: bytes = NO_PHOTO
    """32 bytes: SHA-256 of a photo that travels elsewhere."""


@dataclass(frozen=True, slots=True)
class PumpEntered:
    """The driver typed the number of the pump and confirmed (C19)."""

    pump: int
    """As typed."""


@dataclass(frozen=True, slots=True)
class DestinationEntered:
    """The driver typed where the car may be handed over, and confirmed (C31)."""

    destination: str
    """As typed; up to 96 bytes in UTF-8."""


@dataclass(frozen=True, slots=True)
class UplinkConnected:
    """The fleet can be reached: a session with it is open."""


@dataclass(frozen=True, slots=True)
class UplinkLost:
    """The fleet cannot be reached."""


@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """The instant that `gateway.core.vehicle.next_deadline` named has come."""


@dataclass(frozen=True, slots=True)
class DiskFailed:
    """The disk takes nothing, again and again: service mode begins (L13)."""


@dataclass(frozen=True, slots=True)
class DiskRecovered:
    """The disk takes the ledger again, and has taken what waited for it."""


@dataclass(frozen=True, slots=True)
class UpdateBegan:
    """The car's own program is about to be exchanged; in a rental it changes nothing.

    Ask the state afterwards whether it may: `State.updating`.
    """


@dataclass(frozen=True, slots=True)
class UpdateEnded:
    """The exchange is over, well or not; a start of the agent ends it too."""


@dataclass(frozen=True, slots=True)
class StormBegan:
    """The agent crashed again and again, and starts reduced or tries again (I-30)."""


@dataclass(frozen=True, slots=True)
class StormEnded:
    """All of the agent has run for long enough to be believed in."""


@dataclass(frozen=True, slots=True)
class Noted:
    """The shell learned something that belongs in the ledger and decides nothing.

    A configuration, a key, a trust bundle.
    """

    entries: tuple[EventBody, ...]
    """In order."""


@dataclass(frozen=True, slots=True)
class LedgerReplaced:
    """The ledger was damaged or lost, and this one began in its place.

    It is stepped first of all, with the state of a car that knows nothing.
    """

    reset: LedgerReset
    """Entry 1 of the new one: what is known of the old."""


@dataclass(frozen=True, slots=True)
class ConfigurationTold:
    """A configuration counts from now on: it came whole, or the disk had it.

    After each start the shell tells every body that is in force.
    """

    kind: int
    """`protocol.codes.ConfigKind`."""
    body: bytes
    """All of it; the shell has asked whether it can be read."""
    entries: tuple[EventBody, ...] = ()
    """Tell that it came into force; empty for one that the disk had."""


@dataclass(frozen=True, slots=True)
class PositionFixed:
    """The positioning receiver knows where the car is."""

    position: Position
    """Where, how exactly, and how long ago."""


@dataclass(frozen=True, slots=True)
class RoomChanged:
    """The disk can record more or less than before (I-20).

    The shell tells it before what could begin a rental; a start begins with `ANOTHER`.
    """

    room: Room
    """What it can record."""


Event = (
    AgentStarted
    | CardPresented
    | CommandReceived
    | BoardReported
    | BoardRefused
    | BoardLost
    | ReaderLost
    | ReaderRecovered
    | PinEntered
    | PinChecked
    | MenuChosen
    | RatingEntered
    | DamageEntered
    | PumpEntered
    | DestinationEntered
    | UplinkConnected
    | UplinkLost
    | DeadlineReached
    | DiskFailed
    | DiskRecovered
    | UpdateBegan
    | UpdateEnded
    | StormBegan
    | StormEnded
    | Noted
    | LedgerReplaced
    | ConfigurationTold
    | PositionFixed
    | RoomChanged
)
