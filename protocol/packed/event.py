"""`protocol.event` again, by hand: the bodies of all events."""

from typing import Final

from protocol.codes import (
    AccessMeans,
    CancelReason,
    CardRefusal,
    ClockQuality,
    Code,
    ConfigKind,
    EndReason,
    EventType,
    FaultKind,
    PaidBy,
)
from protocol.diagnosis import (
    LINE_LIMIT,
    LINES_LIMIT,
    PARTS_LIMIT,
    Diagnosed,
    DiagnosisKind,
)
from protocol.errors import DecodeError
from protocol.event import (
    EVENT_SCHEMA,
    TYPE_OF,
    AccessGranted,
    AgentStarted,
    CardRefused,
    EnergyLow,
    EngineReleased,
    EngineStarted,
    EngineStopped,
    EventBody,
    FaultCleared,
    FaultRaised,
    FuelPaidByCard,
    Parked,
    PinAccepted,
    PinBlocked,
    RefuelEnded,
    RefuelStarted,
    RentalEnded,
    RentalStarted,
    ReservationCancelled,
    ReservationExpired,
    ReservationStarted,
    Resumed,
)
from protocol.packed.command import Payload
from protocol.packed.key_material import KEY_MATERIAL
from protocol.packed.record import (
    BITS,
    FLAG,
    HASH,
    ID,
    MEASURED_U16,
    MEASURED_U32,
    PERCENT,
    U8,
    U32,
    U64,
    Packed,
    Zeros,
    exactly,
    member,
    within,
)
from protocol.packed.varied import Items, Text, Varied
from protocol.rental_codes import (
    DamageKind,
    DamagePlace,
    GrantAction,
    PaymentOutcome,
    ResetReason,
    ServiceKind,
    ServiceModeReason,
    TamperKind,
)
from protocol.rental_event import (
    DESTINATION_LIMIT,
    NOTE_LIMIT,
    STARS_LIMIT,
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
    PROOF_SIZE,
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

_MEANS: Final = member(AccessMeans)
_CLOCK: Final = member(ClockQuality)
_STARS: Final = within("B", 1, STARS_LIMIT)

EVENTS: Final[dict[int, Payload]] = {
    EventType.AGENT_STARTED: Packed(AgentStarted, U32, exactly(4)),
    EventType.RESERVATION_STARTED: Packed(ReservationStarted, ID, U64, ID),
    EventType.RESERVATION_EXPIRED: Packed(ReservationExpired, ID),
    EventType.RESERVATION_CANCELLED: Packed(
        ReservationCancelled, ID, member(CancelReason), Zeros(3)
    ),
    EventType.ACCESS_GRANTED: Packed(AccessGranted, ID, _MEANS, Zeros(3), ID),
    EventType.RENTAL_STARTED: Packed(
        RentalStarted, ID, _MEANS, Zeros(1), MEASURED_U32, PERCENT, PERCENT,
        MEASURED_U16, HASH,
    ),
    EventType.CARD_REFUSED: Packed(CardRefused, ID, member(CardRefusal), Zeros(3), ID),
    EventType.PIN_BLOCKED: Packed(PinBlocked, ID, U8, Zeros(3)),
    EventType.PIN_ACCEPTED: Packed(PinAccepted, ID),
    EventType.ENGINE_RELEASED: Packed(EngineReleased, ID, _MEANS, Zeros(3)),
    EventType.ENGINE_STARTED: Packed(EngineStarted, ID, MEASURED_U32),
    EventType.ENGINE_STOPPED: Packed(
        EngineStopped, ID, MEASURED_U32, PERCENT, Zeros(3)
    ),
    EventType.ENERGY_LOW: Packed(
        EnergyLow, ID, within("B", 0, 100), Zeros(1), MEASURED_U16
    ),
    EventType.PARKED: Packed(Parked, ID, _MEANS, Zeros(3), MEASURED_U32, HASH),
    EventType.RESUMED: Packed(Resumed, ID, _MEANS, Zeros(3), U64),
    EventType.REFUEL_STARTED: Packed(
        RefuelStarted, ID, PERCENT, Zeros(3), MEASURED_U32
    ),
    EventType.FUEL_PAID_BY_CARD: Packed(FuelPaidByCard, ID),
    EventType.REFUEL_ENDED: Packed(
        RefuelEnded, ID, PERCENT, PERCENT, member(PaidBy), FLAG
    ),
    EventType.RENTAL_ENDED: Packed(
        RentalEnded,
        # who, why, by whom
        ID, member(EndReason), Zeros(3), HASH,
        # when, and how far those labels can be trusted
        U64, U64, _CLOCK, _CLOCK, FLAG, Zeros(1),
        # durations: total, parking; minutes: driving, parking
        U64, U64, U32, U32,
        # odometer at start and end, distance
        MEASURED_U32, MEASURED_U32, MEASURED_U32,
        # energy: start, end, lowest, gained; washer: start, end; range
        PERCENT, PERCENT, PERCENT, U8, PERCENT, PERCENT, MEASURED_U16,
        BITS,
        # where
        HASH,
    ),
    EventType.FAULT_RAISED: Packed(FaultRaised, member(FaultKind), Zeros(3)),
    EventType.FAULT_CLEARED: Packed(FaultCleared, member(FaultKind), Zeros(3)),
    EventType.INSPECTION_DONE: Packed(InspectionDone, ID),
    EventType.DAMAGE_REPORTED: Varied(
        DamageReported,
        ID, member(DamagePlace), member(DamageKind), Zeros(2), HASH, Text(NOTE_LIMIT),
        HASH,
    ),
    EventType.CLEANLINESS_RATED: Packed(
        CleanlinessRated, ID, _STARS, _STARS, Zeros(2)
    ),
    EventType.PAYMENT_REQUESTED: Packed(
        PaymentRequested, ID, ID, U32, U8, Zeros(3), HASH
    ),
    EventType.PAYMENT_DECIDED: Packed(
        PaymentDecided, ID, ID, member(PaymentOutcome), Zeros(3)
    ),
    EventType.HANDOVER_OFFERED: Packed(HandoverOffered, ID, ID),
    EventType.HANDOVER_ACCEPTED: Packed(HandoverAccepted, ID, ID),
    EventType.HANDOVER_DONE: Packed(HandoverDone, ID, ID),
    EventType.SERVICE_NEEDED: Packed(
        ServiceNeeded, member(ServiceKind), Zeros(3), MEASURED_U32
    ),
    EventType.SERVICE_CLEARED: Packed(
        ServiceCleared, member(ServiceKind), Zeros(3), MEASURED_U32
    ),
    EventType.TAMPER: Packed(Tampered, member(TamperKind), Zeros(3)),
    EventType.CONFIGURATION_ACTIVATED: Packed(
        ConfigurationActivated, member(ConfigKind), Zeros(3), U32, HASH
    ),
    EventType.CONFIGURATION_REFUSED: Packed(
        ConfigurationRefused, member(ConfigKind), Zeros(1), member(Code, "H"), U32
    ),
    EventType.KEY_ROTATED: Packed(
        KeyRotated, KEY_MATERIAL, Zeros(2), exactly(PROOF_SIZE)
    ),
    EventType.LEDGER_RESET: Packed(
        LedgerReset, exactly(8), U64, HASH, member(ResetReason), Zeros(3)
    ),
    EventType.TRUST_CHANGED: Packed(TrustChanged, U32, U32, HASH),
    EventType.GRANT_CHANGED: Packed(GrantChanged, ID, member(GrantAction), Zeros(3)),
    EventType.SERVICE_MODE: Packed(
        ServiceModeChanged, FLAG, member(ServiceModeReason), Zeros(2)
    ),
    EventType.DIAGNOSED: Varied(
        Diagnosed,
        ID, member(DiagnosisKind), within("B", 1, PARTS_LIMIT),
        within("B", 1, PARTS_LIMIT), Zeros(1), Items(Text(LINE_LIMIT), LINES_LIMIT),
    ),
    EventType.HANDOVER_PLANNED: Varied(
        HandoverPlanned, ID, ID, Text(DESTINATION_LIMIT)
    ),
}  # fmt: skip
"""Every event of version 1 (docs/protocol.md, events); one line per group of fields."""


def parse_event(event_type: int, schema: int, body: bytes) -> EventBody:
    """Decode the body of a verified event as `protocol.event.parse_event` does.

    Raises:
        DecodeError: the same bytes, the same code.
    """
    try:
        packed = EVENTS[event_type]
    except KeyError:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"event type 0x{event_type:04X} is not known"
        ) from None
    if schema != EVENT_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {schema} of {EventType(event_type).name}, "
            f"this reads {EVENT_SCHEMA}",
        )
    parsed: EventBody = packed.parse(body)
    return parsed


def build_event(body: EventBody) -> bytes:
    """Encode an event's body.

    Raises:
        EncodeError: a value does not fit its field.
    """
    return EVENTS[TYPE_OF[type(body)]].build(body)
