"""The story of one rental that the event vectors tell."""

from dataclasses import replace
from typing import Final

from protocol.codes import (
    AccessMeans,
    Bits,
    CancelReason,
    CardRefusal,
    ClockQuality,
    EndReason,
    FaultKind,
    PaidBy,
)
from protocol.event import (
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
from tools.published_keys import CARD, FIRMWARE, MONO_MS, RENTAL, WALL_MS


def message_id(number: int) -> bytes:
    """Return a fixed UUID of version 8 (RFC 9562)."""
    return bytes.fromhex(f"{number:04x}c0de000080008000000000000000")


_REPORT: Final = RentalEnded(
    rental_id=RENTAL,
    reason=EndReason.CARD,
    authority=CARD + bytes(16),
    started_wall_ms=WALL_MS,
    ended_wall_ms=WALL_MS + 1_001_000,
    started_quality=ClockQuality.GNSS,
    ended_quality=ClockQuality.SYNC,
    estimated=False,
    total_ms=1_001_000,
    parking_ms=170_000,
    driving_min=14,
    parking_min=3,
    start_odometer_m=48_206_100,
    end_odometer_m=48_211_300,
    distance_m=5_200,
    start_energy_pct=24,
    end_energy_pct=63,
    lowest_energy_pct=23,
    refuel_gain_pct=41,
    start_washer_pct=82,
    end_washer_pct=80,
    range_km=410,
    bits=Bits.LOCKED | Bits.KEY_PRESENT | Bits.FUEL_CARD_PRESENT,
)

STORY: Final[tuple[tuple[str, str, EventBody], ...]] = (
    ("agent_started", "the first entry, its previous hash is zeros",
     AgentStarted(boot_counter=7, firmware=FIRMWARE)),
    ("reservation_started", "names the command",
     ReservationStarted(RENTAL, MONO_MS + 900_000, message_id(5))),
    ("access_granted", "intent before the bolts move",
     AccessGranted(RENTAL, AccessMeans.CARD, CARD)),
    ("rental_started", "the levels at the start",
     RentalStarted(RENTAL, AccessMeans.CARD, 48_206_100, 24, 82, 130)),
    ("pin_blocked", "the first block", PinBlocked(RENTAL, 1)),
    ("pin_accepted", "an id and nothing else", PinAccepted(RENTAL)),
    ("engine_released", "after the PIN", EngineReleased(RENTAL, AccessMeans.CARD)),
    ("engine_started", "driving begins", EngineStarted(RENTAL, 48_206_100)),
    ("energy_low", "below 25 %", EnergyLow(RENTAL, 23, None)),
    ("engine_stopped", "levels not measured",
     EngineStopped(RENTAL, None, None)),
    ("refuel_started", "level before", RefuelStarted(RENTAL, 23, 48_209_000)),
    ("fuel_paid_by_card", "an id and nothing else", FuelPaidByCard(RENTAL)),
    ("refuel_ended", "the level rose",
     RefuelEnded(RENTAL, 23, 64, PaidBy.FUEL_CARD, refuelled=True)),
    ("parked", "by card", Parked(RENTAL, AccessMeans.CARD, 48_209_400)),
    ("card_refused", "another card at the parked car",
     CardRefused(RENTAL, CardRefusal.NOT_FOR_THIS_RENTAL, CARD)),
    ("resumed", "by command", Resumed(RENTAL, AccessMeans.COMMAND, 170_000)),
    ("fault_raised", "no rental id", FaultRaised(FaultKind.LOCK_NO_READBACK)),
    ("fault_cleared", "no rental id", FaultCleared(FaultKind.LOCK_NO_READBACK)),
    ("rental_ended", "the report that money depends on", _REPORT),
    ("rental_ended_absent",
     "nothing was measured, and a power cut made the times estimates",
     replace(
         _REPORT, estimated=True, started_quality=ClockQuality.UNSET,
         ended_quality=ClockQuality.UNSET, start_odometer_m=None,
         end_odometer_m=None, distance_m=None, start_energy_pct=None,
         end_energy_pct=None, lowest_energy_pct=None, refuel_gain_pct=0,
         start_washer_pct=None, end_washer_pct=None, range_km=None,
         reason=EndReason.COMMAND, authority=bytes(range(32)),
     )),
    ("reservation_expired", "nobody came", ReservationExpired(RENTAL)),
    ("reservation_cancelled", "by the operator",
     ReservationCancelled(RENTAL, CancelReason.OPERATOR)),
)  # fmt: skip # one event a row reads as the story it is
