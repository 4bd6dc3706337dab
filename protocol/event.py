"""Events: what happened in a car, one record for each kind of ledger entry.

Each body stands behind an entry link (`protocol.entry`) in the payload of an EVENT
frame. Times are the frame's: its mono and wall labels say when it happened, its
sequence says in which order (protocol-design.md 1.3).
"""

from dataclasses import dataclass
from typing import Any, Final

import construct as cs

from protocol import rental_event, vehicle_event
from protocol.codes import (
    KNOWN_BITS,
    AccessMeans,
    Bits,
    CancelReason,
    CardRefusal,
    ClockQuality,
    Code,
    EndReason,
    EventType,
    FaultKind,
    PaidBy,
)
from protocol.diagnosis import DIAGNOSED, Diagnosed
from protocol.errors import DecodeError
from protocol.layout import (
    FLAG,
    HASH,
    ID,
    PERCENT,
    U8,
    U16,
    U32,
    U64,
    Layout,
    code_of,
    flags_of,
    measured,
    ranged,
    reserved,
)
from protocol.place import NO_PLACE
from protocol.rental_event import (
    CleanlinessRated,
    DamageReported,
    HandoverAccepted,
    HandoverDone,
    HandoverOffered,
    HandoverPlanned,
    InspectionDone,
    PaymentDecided,
    PaymentRequested,
)
from protocol.vehicle_event import (
    ConfigurationActivated,
    ConfigurationRefused,
    GrantChanged,
    KeyRotated,
    LedgerReset,
    ServiceCleared,
    ServiceModeChanged,
    ServiceNeeded,
    Tampered,
    TrustChanged,
)

EVENT_SCHEMA: Final = 1
"""Revision of every event body of protocol version 1."""

_ODOMETER: Final = measured(U32, 0xFFFF_FFFF)
_RANGE: Final = measured(U16, 0xFFFF)


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """The agent in the car began to run; entries may be missing around a power cut."""

    boot_counter: int
    """How often it has started, from 1."""
    firmware: bytes
    """4 bytes: major, minor, patch, 0."""


@dataclass(frozen=True, slots=True)
class ReservationStarted:
    """The car is kept for one customer; indicator yellow."""

    rental_id: bytes
    """16 bytes."""
    reserved_until_ms: int
    """Boot clock of the frame's session, ms."""
    command_id: bytes
    """16 bytes: the command that reserved."""


@dataclass(frozen=True, slots=True)
class ReservationExpired:
    """Nobody came in time; the car released itself (H1)."""

    rental_id: bytes
    """16 bytes."""


@dataclass(frozen=True, slots=True)
class ReservationCancelled:
    """The reservation was taken back."""

    rental_id: bytes
    """16 bytes."""
    reason: CancelReason
    """Who took it back."""


@dataclass(frozen=True, slots=True)
class AccessGranted:
    """A card or command may open the doors; written before the bolts move."""

    rental_id: bytes
    """16 bytes."""
    means: AccessMeans
    """Card or command."""
    authority: bytes
    """16 bytes: the card's digest or the command's id."""


@dataclass(frozen=True, slots=True)
class RentalStarted:
    """The doors were read back open; minutes and distance count from here (C12)."""

    rental_id: bytes
    """16 bytes."""
    means: AccessMeans
    """Card or command."""
    odometer_m: int | None
    """Distance ever driven, m."""
    energy_pct: int | None
    """Fuel or charge, 0 to 100."""
    washer_pct: int | None
    """Washer fluid, 0 to 100 (C23)."""
    range_km: int | None
    """Residual range."""
    place_commitment: bytes = NO_PLACE
    """32 bytes: `protocol.place.commitment_of`, or `NO_PLACE`."""


@dataclass(frozen=True, slots=True)
class CardRefused:
    """A card was held to the car and nothing opened."""

    rental_id: bytes
    """16 bytes; zeros when nobody has the car."""
    reason: CardRefusal
    """Why."""
    card: bytes
    """16 bytes: its digest under `rental_id`."""


@dataclass(frozen=True, slots=True)
class PinBlocked:
    """Three wrong PINs in a row (H6)."""

    rental_id: bytes
    """16 bytes."""
    block: int
    """Which block of this rental, from 1; the third one only the fleet lifts."""


@dataclass(frozen=True, slots=True)
class PinAccepted:
    """The customer's PIN was right; written before the engine is released."""

    rental_id: bytes
    """16 bytes."""


@dataclass(frozen=True, slots=True)
class EngineReleased:
    """The board read back that the engine may start."""

    rental_id: bytes
    """16 bytes."""
    means: AccessMeans
    """By the PIN after a card, or by command."""


@dataclass(frozen=True, slots=True)
class EngineStarted:
    """The engine runs; driving begins."""

    rental_id: bytes
    """16 bytes."""
    odometer_m: int | None
    """Distance ever driven, m."""


@dataclass(frozen=True, slots=True)
class EngineStopped:
    """The engine is off; the driver is asked what next (C16)."""

    rental_id: bytes
    """16 bytes."""
    odometer_m: int | None
    """Distance ever driven, m."""
    energy_pct: int | None
    """Fuel or charge, 0 to 100."""


@dataclass(frozen=True, slots=True)
class EnergyLow:
    """The level fell below 25 %; raised once for each rental (N2, C14)."""

    rental_id: bytes
    """16 bytes."""
    energy_pct: int
    """Fuel or charge, 0 to 100."""
    range_km: int | None
    """Residual range."""


@dataclass(frozen=True, slots=True)
class Parked:
    """Locked without ending the rental; parking minutes count from here (C24)."""

    rental_id: bytes
    """16 bytes."""
    means: AccessMeans
    """Card or command."""
    odometer_m: int | None
    """Distance ever driven, m."""
    place_commitment: bytes = NO_PLACE
    """32 bytes: `protocol.place.commitment_of`, or `NO_PLACE`."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The driver came back to the parked car."""

    rental_id: bytes
    """16 bytes."""
    means: AccessMeans
    """Card or command."""
    parked_ms: int
    """Length of this stay, ms."""


@dataclass(frozen=True, slots=True)
class RefuelStarted:
    """The driver chose to refuel (C17)."""

    rental_id: bytes
    """16 bytes."""
    energy_pct: int | None
    """Level before, 0 to 100."""
    odometer_m: int | None
    """Distance ever driven, m."""


@dataclass(frozen=True, slots=True)
class FuelPaidByCard:
    """The driver confirmed to have paid with the fuel card (H2)."""

    rental_id: bytes
    """16 bytes."""


@dataclass(frozen=True, slots=True)
class RefuelEnded:
    """Refuelling is over."""

    rental_id: bytes
    """16 bytes."""
    before_pct: int | None
    """Level before, 0 to 100."""
    after_pct: int | None
    """Level after, 0 to 100."""
    paid_by: PaidBy
    """How it was paid, as far as the car knows."""
    refuelled: bool
    """Whether the level rose by at least 10 points (H5)."""


@dataclass(frozen=True, slots=True)
class FaultRaised:
    """Something stopped working; told once for each episode."""

    kind: FaultKind
    """What."""


@dataclass(frozen=True, slots=True)
class FaultCleared:
    """It works again."""

    kind: FaultKind
    """What."""


@dataclass(frozen=True, slots=True)
class RentalEnded:
    """The rental report: everything that money depends on (C27, H7, H21)."""

    rental_id: bytes
    """16 bytes."""
    reason: EndReason
    """What ended it."""
    authority: bytes
    """32 bytes: hash of the command frame, or the card's digest and zeros."""
    started_wall_ms: int
    """UTC ms, a label."""
    ended_wall_ms: int
    """UTC ms, a label."""
    started_quality: ClockQuality
    """How far the first label can be trusted."""
    ended_quality: ClockQuality
    """How far the second can."""
    estimated: bool
    """Whether a power cut made part of the durations an estimate."""
    total_ms: int
    """From doors open to doors locked, on the boot clock."""
    parking_ms: int
    """Part of it that the car was parked."""
    driving_min: int
    """Minutes at the driving tariff, `billed_minutes` of total less parking."""
    parking_min: int
    """Minutes at the parking tariff, `billed_minutes` of parking."""
    start_odometer_m: int | None
    """Distance ever driven at the start, m."""
    end_odometer_m: int | None
    """Distance ever driven at the end, m."""
    distance_m: int | None
    """Driven in this rental, m."""
    start_energy_pct: int | None
    """Level at the start, 0 to 100."""
    end_energy_pct: int | None
    """Level at the end, 0 to 100."""
    lowest_energy_pct: int | None
    """Lowest level seen, 0 to 100; decides the bonus (B20)."""
    refuel_gain_pct: int
    """Points gained while in refuel mode, summed (H5)."""
    start_washer_pct: int | None
    """Washer fluid at the start, 0 to 100 (C23)."""
    end_washer_pct: int | None
    """Washer fluid at the end, 0 to 100 (C23)."""
    range_km: int | None
    """Residual range at the end (N4)."""
    bits: Bits
    """Locks, doors, engine, lights, key and card as read back at the end."""
    place_commitment: bytes = NO_PLACE
    """32 bytes: `protocol.place.commitment_of`, or `NO_PLACE`."""


MINUTE_MS: Final = 60_000


def billed_minutes(duration_ms: int) -> int:
    """Return minutes to bill: every minute that began counts.

    Driving and parking are rounded up each for itself (docs/protocol.md, report).
    """
    return -(-duration_ms // MINUTE_MS)


_MEANS: Final = code_of(U8, AccessMeans)
_RENTAL: Final = "rental_id" / ID
_PLACE: Final = "place_commitment" / HASH

EVENTS: Final[dict[EventType, Layout[Any]]] = {
    EventType.AGENT_STARTED: Layout(
        AgentStarted, "boot_counter" / U32, "firmware" / cs.Bytes(4)
    ),
    EventType.RESERVATION_STARTED: Layout(
        ReservationStarted, _RENTAL, "reserved_until_ms" / U64, "command_id" / ID
    ),
    EventType.RESERVATION_EXPIRED: Layout(ReservationExpired, _RENTAL),
    EventType.RESERVATION_CANCELLED: Layout(
        ReservationCancelled,
        _RENTAL,
        "reason" / code_of(U8, CancelReason),
        reserved(3),
    ),
    EventType.ACCESS_GRANTED: Layout(
        AccessGranted, _RENTAL, "means" / _MEANS, reserved(3), "authority" / ID
    ),
    EventType.RENTAL_STARTED: Layout(
        RentalStarted,
        _RENTAL,
        "means" / _MEANS,
        reserved(1),
        "odometer_m" / _ODOMETER,
        "energy_pct" / PERCENT,
        "washer_pct" / PERCENT,
        "range_km" / _RANGE,
        _PLACE,
    ),
    EventType.CARD_REFUSED: Layout(
        CardRefused,
        _RENTAL,
        "reason" / code_of(U8, CardRefusal),
        reserved(3),
        "card" / ID,
    ),
    EventType.PIN_BLOCKED: Layout(PinBlocked, _RENTAL, "block" / U8, reserved(3)),
    EventType.PIN_ACCEPTED: Layout(PinAccepted, _RENTAL),
    EventType.ENGINE_RELEASED: Layout(
        EngineReleased, _RENTAL, "means" / _MEANS, reserved(3)
    ),
    EventType.ENGINE_STARTED: Layout(EngineStarted, _RENTAL, "odometer_m" / _ODOMETER),
    EventType.ENGINE_STOPPED: Layout(
        EngineStopped,
        _RENTAL,
        "odometer_m" / _ODOMETER,
        "energy_pct" / PERCENT,
        reserved(3),
    ),
    EventType.ENERGY_LOW: Layout(
        EnergyLow,
        _RENTAL,
        "energy_pct" / ranged(U8, 0, 100),
        reserved(1),
        "range_km" / _RANGE,
    ),
    EventType.PARKED: Layout(
        Parked,
        _RENTAL,
        "means" / _MEANS,
        reserved(3),
        "odometer_m" / _ODOMETER,
        _PLACE,
    ),
    EventType.RESUMED: Layout(
        Resumed, _RENTAL, "means" / _MEANS, reserved(3), "parked_ms" / U64
    ),
    EventType.REFUEL_STARTED: Layout(
        RefuelStarted,
        _RENTAL,
        "energy_pct" / PERCENT,
        reserved(3),
        "odometer_m" / _ODOMETER,
    ),
    EventType.FUEL_PAID_BY_CARD: Layout(FuelPaidByCard, _RENTAL),
    EventType.REFUEL_ENDED: Layout(
        RefuelEnded,
        _RENTAL,
        "before_pct" / PERCENT,
        "after_pct" / PERCENT,
        "paid_by" / code_of(U8, PaidBy),
        "refuelled" / FLAG,
    ),
    EventType.RENTAL_ENDED: Layout(
        RentalEnded,
        _RENTAL,
        "reason" / code_of(U8, EndReason),
        reserved(3),
        "authority" / HASH,
        "started_wall_ms" / U64,
        "ended_wall_ms" / U64,
        "started_quality" / code_of(U8, ClockQuality),
        "ended_quality" / code_of(U8, ClockQuality),
        "estimated" / FLAG,
        reserved(1),
        "total_ms" / U64,
        "parking_ms" / U64,
        "driving_min" / U32,
        "parking_min" / U32,
        "start_odometer_m" / _ODOMETER,
        "end_odometer_m" / _ODOMETER,
        "distance_m" / _ODOMETER,
        "start_energy_pct" / PERCENT,
        "end_energy_pct" / PERCENT,
        "lowest_energy_pct" / PERCENT,
        "refuel_gain_pct" / U8,
        "start_washer_pct" / PERCENT,
        "end_washer_pct" / PERCENT,
        "range_km" / _RANGE,
        "bits" / flags_of(U16, Bits, KNOWN_BITS),
        _PLACE,
    ),
    EventType.FAULT_RAISED: Layout(
        FaultRaised, "kind" / code_of(U8, FaultKind), reserved(3)
    ),
    EventType.FAULT_CLEARED: Layout(
        FaultCleared, "kind" / code_of(U8, FaultKind), reserved(3)
    ),
    EventType.INSPECTION_DONE: rental_event.INSPECTION_DONE,
    EventType.DAMAGE_REPORTED: rental_event.DAMAGE_REPORTED,
    EventType.CLEANLINESS_RATED: rental_event.CLEANLINESS_RATED,
    EventType.PAYMENT_REQUESTED: rental_event.PAYMENT_REQUESTED,
    EventType.PAYMENT_DECIDED: rental_event.PAYMENT_DECIDED,
    EventType.HANDOVER_OFFERED: rental_event.HANDOVER_OFFERED,
    EventType.HANDOVER_ACCEPTED: rental_event.HANDOVER_ACCEPTED,
    EventType.HANDOVER_DONE: rental_event.HANDOVER_DONE,
    EventType.SERVICE_NEEDED: vehicle_event.SERVICE_NEEDED,
    EventType.SERVICE_CLEARED: vehicle_event.SERVICE_CLEARED,
    EventType.TAMPER: vehicle_event.TAMPER,
    EventType.CONFIGURATION_ACTIVATED: vehicle_event.CONFIGURATION_ACTIVATED,
    EventType.CONFIGURATION_REFUSED: vehicle_event.CONFIGURATION_REFUSED,
    EventType.KEY_ROTATED: vehicle_event.KEY_ROTATED,
    EventType.LEDGER_RESET: vehicle_event.LEDGER_RESET,
    EventType.TRUST_CHANGED: vehicle_event.TRUST_CHANGED,
    EventType.GRANT_CHANGED: vehicle_event.GRANT_CHANGED,
    EventType.SERVICE_MODE: vehicle_event.SERVICE_MODE,
    EventType.DIAGNOSED: DIAGNOSED,
    EventType.HANDOVER_PLANNED: rental_event.HANDOVER_PLANNED,
}
"""Every event of version 1 and its body."""

EventBody = (
    AgentStarted
    | ReservationStarted
    | ReservationExpired
    | ReservationCancelled
    | AccessGranted
    | RentalStarted
    | CardRefused
    | PinBlocked
    | PinAccepted
    | EngineReleased
    | EngineStarted
    | EngineStopped
    | EnergyLow
    | Parked
    | Resumed
    | RefuelStarted
    | FuelPaidByCard
    | RefuelEnded
    | RentalEnded
    | FaultRaised
    | FaultCleared
    | InspectionDone
    | DamageReported
    | CleanlinessRated
    | PaymentRequested
    | PaymentDecided
    | HandoverOffered
    | HandoverAccepted
    | HandoverDone
    | ServiceNeeded
    | ServiceCleared
    | Tampered
    | ConfigurationActivated
    | ConfigurationRefused
    | KeyRotated
    | LedgerReset
    | TrustChanged
    | GrantChanged
    | ServiceModeChanged
    | Diagnosed
    | HandoverPlanned
)

TYPE_OF: Final[dict[type[object], EventType]] = {
    layout.record: event_type for event_type, layout in EVENTS.items()
}
"""The event type of each record."""


def parse_event(event_type: int, schema: int, body: bytes) -> EventBody:
    """Decode the body of a verified event.

    Raises:
        DecodeError: UNKNOWN_OPCODE or UNSUPPORTED_SCHEMA when the sender is newer, and
            then the raw frame is kept all the same; BAD_PARAM or NON_CANONICAL when
            the body is wrong.
    """
    try:
        layout = EVENTS[EventType(event_type)]
    except ValueError:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"event type 0x{event_type:04X} is not known"
        ) from None
    if schema != EVENT_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {schema} of {EventType(event_type).name}, "
            f"this reads {EVENT_SCHEMA}",
        )
    body_record: EventBody = layout.parse(body)
    return body_record


def build_event(body: EventBody) -> bytes:
    """Encode an event's body.

    Raises:
        EncodeError: a value does not fit its field.
    """
    return EVENTS[TYPE_OF[type(body)]].build(body)
