"""Commands, events and places of the test vectors beyond the rental's own story.

`tools.vector_cases` gives them headers and signs them.
"""

from dataclasses import replace
from typing import Final

from protocol.codes import (
    Code,
    ConfigKind,
    FaultKind,
    LockDefault,
    LockMode,
    Opcode,
)
from protocol.command import (
    ANY_VERSION,
    Command,
    Explain,
    LockAndDisable,
    Reboot,
    RequestSnapshot,
    Restart,
    RotateKey,
    ShowMessage,
    UnlockAndEnable,
)
from protocol.diagnosis import Diagnosed, DiagnosisKind, ExplainSubject
from protocol.event import (
    EventBody,
    FaultRaised,
    Parked,
    RentalEnded,
    RentalStarted,
)
from protocol.place import EventPlace, Place, commitment_of
from protocol.rental_codes import (
    Component,
    DamageKind,
    DamagePlace,
    GrantAction,
    PaymentOutcome,
    ResetReason,
    Rights,
    ServiceKind,
    ServiceModeReason,
    ServiceRequest,
    TamperKind,
)
from protocol.rental_command import (
    Grant,
    HandoverOffer,
    HandoverRequest,
    PaymentDecision,
    Service,
    SetDefaultMode,
)
from protocol.rental_event import (
    NO_PHOTO,
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
from protocol.snapshot import NO_RENTAL
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
from tools.published_keys import (
    CAR_A,
    CAR_A_KEY,
    CAR_A_NEXT_KEY,
    CARD,
    FLEET_ID,
    LEDGER,
    MONO_MS,
    NEXT_LEDGER,
    RENTAL,
    SEALED,
    WALL_MS,
)

OFFER: Final = bytes.fromhex("0ffe" * 8)
PAYMENT: Final = bytes.fromhex("9a1d" * 8)
GRANT: Final = bytes.fromhex("67a7" * 8)
NEXT_RENTAL: Final = bytes.fromhex("2f2e3d4c5b6a79880011223344556677")

_GRANT: Final = Grant(
    rental_id=RENTAL,
    expected_version=ANY_VERSION,
    action=GrantAction.ADD,
    grant_id=GRANT,
    card=CARD,
    not_before_wall_ms=WALL_MS,
    not_after_wall_ms=WALL_MS + 86_400_000,
    rights=Rights.UNLOCK | Rights.DRIVE,
    lock_default=LockDefault.PARK,
    language=b"en",
    sealed=SEALED,
)

ADDED_OPCODES: Final = frozenset({Opcode.EXPLAIN})
"""What came after the first vectors: bundles and hellos of before do not name it."""

LATER_COMMANDS: Final[tuple[tuple[str, str, Command], ...]] = (
    ("unlock_and_enable", "two actions, one order", UnlockAndEnable(RENTAL, 8)),
    (
        "lock_and_disable",
        "a mode and reserved bytes",
        LockAndDisable(RENTAL, ANY_VERSION, LockMode.END),
    ),
    (
        "set_default_mode",
        "the customer's default",
        SetDefaultMode(RENTAL, 10, LockDefault.PARK),
    ),
    (
        "payment_decision",
        "a currency and the largest amount",
        PaymentDecision(RENTAL, 10, PAYMENT, PaymentOutcome.PAID, b"EUR", 0xFFFF_FFFF),
    ),
    (
        "handover_offer",
        "negative coordinates, one card and sealed secrets",
        HandoverOffer(
            RENTAL, 10, OFFER, MONO_MS + 900_000, -1, -1_800_000_000, (CARD,), SEALED
        ),
    ),
    (
        "handover_offer_bare",
        "no card and no secrets: both lengths are zero",
        HandoverOffer(RENTAL, 10, OFFER, 0, 900_000_000, 0, (), b""),
    ),
    (
        "handover_request",
        "a name of 32 bytes in UTF-8 that is not ASCII",
        HandoverRequest(
            RENTAL,
            10,
            OFFER,
            MONO_MS + 900_000,
            481_351_250,
            115_819_810,
            350,
            "Zoë Ångström von Kępa-Łysia",
        ),
    ),
    (
        "service",
        "on, until an instant of the boot clock",
        Service(NO_RENTAL, ANY_VERSION, ServiceRequest.ON, MONO_MS + 3_600_000),
    ),
    ("grant", "rights as bits, and sealed secrets", _GRANT),
    (
        "grant_withdraw",
        "no secrets: their length is zero",
        replace(_GRANT, action=GrantAction.WITHDRAW, sealed=b""),
    ),
    (
        "show_message",
        "a list of texts, the second of them empty",
        ShowMessage(RENTAL, ANY_VERSION, 7, ("Leopoldstraße", "", "12 min"), 255),
    ),
    (
        "show_message_bare",
        "a text without arguments",
        ShowMessage(NO_RENTAL, ANY_VERSION, 0xFFFF, (), 1),
    ),
    ("restart", "one component", Restart(NO_RENTAL, ANY_VERSION, Component.READER)),
    ("reboot", "a rental id, a version and nothing else", Reboot(NO_RENTAL, 12)),
    ("snapshot", "moves nothing", RequestSnapshot(NO_RENTAL, ANY_VERSION)),
    ("rotate_key", "the lane of trust", RotateKey(NO_RENTAL, ANY_VERSION)),
    (
        "explain",
        "why the last card was taken as it was",
        Explain(NO_RENTAL, ANY_VERSION, ExplainSubject.TAP, bytes(16)),
    ),
)

LATER_EVENTS: Final[tuple[tuple[str, str, EventBody], ...]] = (
    ("inspection_done", "an id and nothing else", InspectionDone(RENTAL)),
    ("damage_reported", "a photo, and a note that is not ASCII",
     DamageReported(RENTAL, DamagePlace.MIRRORS, DamageKind.BROKEN, bytes(range(32)),
                    "Außenspiegel links, Glas fehlt")),
    ("damage_reported_bare", "no photo, no note and no place",
     DamageReported(RENTAL, DamagePlace.INTERIOR, DamageKind.DIRT, NO_PHOTO, "")),
    ("damage_reported_long", "a note of 200 bytes",
     DamageReported(RENTAL, DamagePlace.FRONT, DamageKind.OTHER, NO_PHOTO, "é" * 100)),
    ("cleanliness_rated", "both ends of the scale", CleanlinessRated(RENTAL, 1, 5)),
    ("payment_requested", "the engine is held",
     PaymentRequested(RENTAL, PAYMENT, 4_711, 3)),
    ("payment_decided", "refused",
     PaymentDecided(RENTAL, PAYMENT, PaymentOutcome.REFUSED)),
    ("handover_offered", "two ids", HandoverOffered(RENTAL, OFFER)),
    ("handover_accepted", "two ids", HandoverAccepted(RENTAL, OFFER)),
    ("handover_done", "names the rental that begins",
     HandoverDone(RENTAL, NEXT_RENTAL)),
    ("service_needed", "with an odometer",
     ServiceNeeded(ServiceKind.BRAKE_PADS, 48_211_300)),
    ("service_cleared", "an odometer that was not measured",
     ServiceCleared(ServiceKind.BRAKE_PADS, None)),
    ("tamper", "no rental id", Tampered(TamperKind.MOVED_WITHOUT_RENTAL)),
    ("configuration_activated", "a version and a hash",
     ConfigurationActivated(ConfigKind.STATIONS, 12, bytes(range(32)))),
    ("configuration_refused", "a code inside a body",
     ConfigurationRefused(ConfigKind.GRANTS, Code.BAD_PARAM, 13)),
    ("trust_changed", "two versions and a hash",
     TrustChanged(1, 2, bytes(range(32)))),
    ("grant_changed", "withdrawn", GrantChanged(GRANT, GrantAction.WITHDRAW)),
    ("service_mode", "off, as its time was over",
     ServiceModeChanged(on=False, reason=ServiceModeReason.EXPIRED)),
)  # fmt: skip # one event a row reads as the story it is

ROTATION_SEQ: Final = 2
"""Where the change of keys stands in the ledger of `next_ledger`."""


def next_ledger(
    head_seq: int, head_hash: bytes
) -> tuple[tuple[str, str, EventBody], ...]:
    """Return how the car's next ledger begins: after a loss, and with a new key."""
    new = CAR_A_NEXT_KEY.key
    proof = new.sign(
        b"ff-rotate-v1\0"
        + FLEET_ID
        + CAR_A.raw
        + CAR_A_KEY.key.key_id
        + NEXT_LEDGER
        + ROTATION_SEQ.to_bytes(8, "big")
    )
    reset = LedgerReset(LEDGER, head_seq, head_hash, ResetReason.CORRUPT)
    return (
        ("ledger_reset", "the first entry of another ledger", reset),
        (
            "key_rotated",
            "signed by the old key, proved by the new one",
            KeyRotated(new.verify_key.raw, proof),
        ),
        (
            "diagnosed",
            "the answer to a ping in lines, the board did not answer",
            Diagnosed(
                OFFER,
                DiagnosisKind.PING,
                1,
                1,
                ("committed_ms=4", "board_ms=-", "reader_ms=112", "signed_ms=2012"),
            ),
        ),
        (
            "handover_planned",
            "a destination that is not ASCII",
            HandoverPlanned(RENTAL, OFFER, "Münchner Straße 12"),
        ),
        # A car raises it beside LEDGER_RESET; here it is last, as vectors stay.
        (
            "ledger_lost",
            "the fault of a car that lost its ledger",
            FaultRaised(FaultKind.LEDGER_LOST),
        ),
    )


_PLACES: Final = {
    "rental_started": Place(481_351_250, 115_819_810, 25, 4),
    "parked": Place(-900_000_000, -1_800_000_000, None, 0),
    "rental_ended": Place(481_402_777, 115_600_001, 0xFFFE, 0xFFFF),
    "payment_requested": Place(0, 0, 0, 0),
}
"""Where the events of these vectors happened; all others have no place."""


def place_at(name: str, seq: int) -> EventPlace | None:
    """Return the place of an event's vector, if it has one."""
    place = _PLACES.get(name)
    if place is None:
        return None
    return EventPlace(LEDGER, seq, bytes([0x5A, seq]) * 8, place)


def placed(name: str, body: EventBody, seq: int) -> EventBody:
    """Return a body with the commitment to its place, if it has one."""
    told = place_at(name, seq)
    if told is None or not isinstance(
        body, RentalStarted | Parked | RentalEnded | PaymentRequested
    ):
        return body
    return replace(body, place_commitment=commitment_of(CAR_A, told))
