"""The state of a car: everything that the next decision may depend on.

It is one frozen value. The shell commits it together with the ledger entries of the
decision that made it, and starts from it after a power cut. Instants in it are on the
boot clock of the machine's current boot; `AgentStarted` moves them when that changed.
"""

from dataclasses import dataclass, replace
from enum import Enum, unique

from gateway.core.facts import NO_FACTS, Facts
from gateway.core.moment import NEVER, Moment
from gateway.core.prompts import NO_PROMPT, Prompt
from gateway.core.reading import Position, Reading
from gateway.core.room import Room
from protocol.codes import (
    AccessMeans,
    FaultKind,
    Light,
    LockDefault,
    RentalMode,
)
from protocol.rental_codes import PaymentOutcome, ServiceKind
from protocol.rental_command import Grant


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a customer was promised, and what opens the car."""

    rental_id: bytes
    """16 bytes."""
    until_ms: int
    """Boot clock: afterwards the car releases itself (H1)."""
    lock_default: LockDefault
    """What locking means when nothing was chosen (C28)."""
    language: bytes
    """Two letters."""
    cards: tuple[bytes, ...]
    """Digests of the cards that open."""
    sealed: bytes
    """Secrets sealed to this car; may be empty."""


@dataclass(frozen=True, slots=True)
class PinGuard:
    """How often a wrong PIN was typed; survives restarts (H6)."""

    wrong: int = 0
    """Wrong entries since the last block or right one."""
    blocks: int = 0
    """Blocks in this rental."""
    blocked_until_ms: int | None = None
    """Boot clock; None when entry is open, or blocked for good."""


@dataclass(frozen=True, slots=True)
class Refuelling:
    """A visit to a fuel station or charger."""

    before_pct: int | None
    """Level when it began."""
    paid: bool
    """Whether the driver confirmed to have paid by fuel card."""
    asks_pump: bool = False
    """Whether the number of the pump is asked for (C19)."""
    online: bool = False
    """Whether the fleet was asked to pay in this visit."""
    plugged: bool = False
    """Whether the charging cable was seen in its socket (H13)."""


@unique
class PaymentStage(Enum):
    """How far an online payment is (H2)."""

    PENDING = "the fleet is asked"
    FALLBACK = "the fuel card is offered"
    PAID = "the fleet has paid"
    CARD = "the driver confirmed to have paid by fuel card"
    WAIVED = "the fleet released the engine without it"
    LEFT = "the visit is over"


@dataclass(frozen=True, slots=True)
class Payment:
    """The last online payment of a rental (H3)."""

    payment_id: bytes
    """16 bytes, made by the car."""
    stage: PaymentStage
    """How far it is."""
    until_ms: int
    """Boot clock: how long the fleet's answer is waited for."""
    decision: PaymentOutcome | None = None
    """What the fleet decided."""


@unique
class Inspection(Enum):
    """How far the customer is with looking at the car (C9)."""

    DAMAGE = "known damage is shown"
    CLEANLINESS = "cleanliness is asked for"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without power whose length was assumed, until it can be put right."""

    trusted_ms: int
    """Trusted UTC when the state was last committed before it."""
    began_ms: int
    """Boot clock: first instant after it."""
    assumed_ms: int
    """What was counted for it."""
    parked: bool
    """Whether it counted as parking too."""


@unique
class HandoverStage(Enum):
    """How far a handover is (H11)."""

    AGREED = "the fleet has named a second driver"
    AT_WHEEL = "the second driver's card or app was right, and the PIN is asked for"


@dataclass(frozen=True, slots=True)
class Handover:
    """Somebody to whom the fleet lets the car be handed over (H11)."""

    offer_id: bytes
    """16 bytes: the rental that would begin."""
    until_ms: int
    """Boot clock: afterwards it is over."""
    latitude_e7: int
    """Where they meet: degrees times 10^7, WGS 84."""
    longitude_e7: int
    """Degrees times 10^7, WGS 84."""
    cards: tuple[bytes, ...]
    """Digests of the second driver's cards."""
    sealed: bytes
    """The second driver's secrets."""
    asks_pin_until_ms: int | None = None
    """Boot clock: until then the PIN is asked for; None before card or app."""
    wrong: int = 0
    """Wrong PINs."""
    means: AccessMeans = AccessMeans.CARD
    """By what the second driver came."""
    authority: bytes = b""
    """32 bytes of that, for the report."""

    @property
    def stage(self) -> HandoverStage:
        """How far it is."""
        asks = self.asks_pin_until_ms is not None
        return HandoverStage.AT_WHEEL if asks else HandoverStage.AGREED


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Somebody near who would take the car over (C33)."""

    request_id: bytes
    """16 bytes."""
    until_ms: int
    """Boot clock: afterwards it is over."""
    distance_m: int
    """How far they are."""
    name: str
    """What they want to be called."""


@dataclass(frozen=True, slots=True)
class Rental:
    """A running rental and what its report will say."""

    reservation: Reservation
    """Cards, default and secrets stay those of the reservation."""
    means: AccessMeans
    """By what it was opened."""
    started: Moment
    """When the doors were read back open."""
    running_since_ms: int
    """Boot clock: start of the span not yet in `carried_ms`."""
    carried_ms: int
    """Length of spans before the machine's last boot."""
    parked_since_ms: int | None
    """Boot clock: start of the present stay."""
    stay_carried_ms: int
    """Length of the present stay before the machine's last boot."""
    parking_ms: int
    """Length of the stays that are over."""
    start: Reading
    """The board's reading at the start."""
    lowest_energy_pct: int | None
    """Lowest level seen."""
    refuel_gain_pct: int
    """Points gained while refuelling, summed."""
    refuelling: Refuelling | None
    """The present visit to a station."""
    low_told: bool
    """Whether the low level was told (once for each rental)."""
    parking_chosen: bool | None
    """The driver's choice for the next lock: park, end, or none."""
    driven: bool
    """Whether the engine has run since the doors were last opened."""
    opened_ms: int
    """Boot clock: when the doors were last opened for the customer."""
    pin: PinGuard
    """Wrong PINs."""
    pin_accepted: bool
    """Whether the PIN was right since the doors were last opened."""
    held: bool
    """Whether the fleet holds the engine, whatever PIN is typed."""
    estimated: bool
    """Whether a power cut made a duration an estimate."""
    inspection: Inspection = Inspection.DONE
    """How far boarding is; a rental of an older program has it behind it."""
    reporting: bool = False
    """Whether the form of a damage stands (C10)."""
    reports: int = 0
    """Damages reported."""
    handover: Handover | None = None
    """Who may take the car over."""
    search: SearchRequest | None = None
    """Who asks for it."""
    offers: int = 0
    """Offers to hand over that the driver made."""
    planning: bool = False
    """Whether it is asked where the car will be handed over (C31)."""
    station: int | None = None
    """The station at whose geofence the engine was stopped (C18)."""
    payment: Payment | None = None
    """The last online payment."""
    payments: int = 0
    """Online payments asked for."""
    outage: Outage | None = None
    """The last time without power, if its length is not known yet."""


@unique
class Purpose(Enum):
    """What an actuation under way is for."""

    START = "start"
    RESUME = "resume"
    PARK = "park"
    END = "end"
    SERVICE_OPEN = "open for a technician"
    SERVICE_CLOSE = "close for a technician"
    PLAIN_UNLOCK = "plain unlock"
    PLAIN_LOCK = "plain lock"
    RELEASE = "release"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Request:
    """The command that a result must answer."""

    msg_id: bytes
    """16 bytes."""
    request_hash: bytes
    """32 bytes."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An actuation that the board has not yet read back."""

    purpose: Purpose
    """What happens when it is."""
    deadline_ms: int
    """Boot clock: afterwards nobody knows whether it moved."""
    means: AccessMeans
    """By what it was authorised."""
    authority: bytes
    """32 bytes: hash of the command frame, or the card's digest and zeros."""
    request: Request | None
    """The command to answer; None for a card."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """A technician has the car."""

    until_ms: int
    """Boot clock: service ends by itself then."""


@dataclass(frozen=True, slots=True)
class WalkUp:
    """A card at a free car, of which the fleet may say that it opens (H19)."""

    uid: bytes
    """As read."""
    until_ms: int
    """Boot clock: afterwards it is refused."""


@dataclass(frozen=True, slots=True)
class Tap:
    """The last card, to tell one tap from the next (I-14)."""

    uid: bytes
    """As read."""
    at_ms: int
    """Boot clock."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A need for service that seems to have begun, or to be over."""

    kind: ServiceKind
    """Which."""
    since_ms: int
    """Boot clock: since when."""


@dataclass(frozen=True, slots=True)
class State:
    """All of it."""

    mode: RentalMode = RentalMode.AVAILABLE
    """The rental axis."""
    version: int = 0
    """Rises with every change of mode; u32."""
    reservation: Reservation | None = None
    """Set in mode RESERVED only."""
    rental: Rental | None = None
    """Set in every mode of a rental."""
    grants: tuple[Grant, ...] = ()
    """What cards may do with no network (H14)."""
    workshop: Workshop | None = None
    """Set while a technician has the car."""
    updating: bool = False
    """Whether the car's own program is being exchanged."""
    walk_up: WalkUp | None = None
    """A card that waits for the fleet's word."""
    pending: Pending | None = None
    """At most one actuation at a time."""
    reading: Reading | None = None
    """The board's last report; None before the first and when it is lost."""
    reading_at_ms: int = 0
    """Boot clock of that report."""
    position: Position | None = None
    """The newest fix; None before the first."""
    position_at_ms: int = 0
    """Boot clock: when it was taken."""
    facts: Facts = NO_FACTS
    """What the fleet has told about the world."""
    online: bool = False
    """Whether the fleet can be reached, as far as the car knows."""
    needs: frozenset[ServiceKind] = frozenset()
    """Service that the car has found to need and told (C30)."""
    suspects: tuple[Suspect, ...] = ()
    """Needs that may have begun or ended, and since when."""
    faults: frozenset[FaultKind] = frozenset()
    """What does not work now."""
    room: Room = Room.ANOTHER
    """What the disk can record, as it was told last."""
    tap: Tap | None = None
    """The last card."""
    refusal_told_ms: int | None = None
    """Boot clock: when a refused card was last written to the ledger."""
    refusing_until_ms: int | None = None
    """Boot clock: until then the indicator blinks red (H15)."""
    notice: Prompt = NO_PROMPT
    """A passing word to the driver."""
    notice_until_ms: int | None = None
    """Boot clock: until then the notice stands before the prompt of the state."""
    shown_light: Light = Light.OFF
    """What the indicator was last told."""
    shown_blinking: bool = False
    """Whether it was told to blink."""
    shown_prompt: Prompt = NO_PROMPT
    """What the display was last told."""
    restarted_ms: int | None = None
    """Boot clock: when the fleet last had something started anew."""
    last: Moment = NEVER
    """When the state was last changed; bridges a power cut."""

    def essence(self) -> "State":
        """Return what a restart must find again: this state without passing things.

        Two states of equal essence need no commit between them.
        """
        return replace(
            self,
            reading=None,
            reading_at_ms=0,
            position=None,
            position_at_ms=0,
            facts=NO_FACTS,
            online=False,
            suspects=(),
            room=Room.ANOTHER,
            tap=None,
            walk_up=None,
            refusing_until_ms=None,
            notice=NO_PROMPT,
            notice_until_ms=None,
            shown_light=Light.OFF,
            shown_blinking=False,
            shown_prompt=NO_PROMPT,
            last=NEVER,
        )

    def kept(self) -> "State":
        """Return what is written to the disk.

        No UID of a card, since a rental knows its cards by digests; not the place
        (K25); and not the facts, which are on the disk as bodies.
        """
        return replace(
            self,
            tap=None,
            walk_up=None,
            position=None,
            position_at_ms=0,
            facts=NO_FACTS,
            online=False,
            suspects=(),
            room=Room.ANOTHER,
        )

    @property
    def is_lost(self) -> bool:
        """Whether the ledger was lost and nobody knows who has the car (FF-LED-32).

        The mode says AVAILABLE then since there is nothing else to say; the fleet's
        word ends it (`gateway.core.loss`).
        """
        return FaultKind.LEDGER_LOST in self.faults

    @property
    def rental_id(self) -> bytes | None:
        """The reservation or rental that the car is in."""
        if self.rental is not None:
            return self.rental.reservation.rental_id
        if self.reservation is not None:
            return self.reservation.rental_id
        return None
