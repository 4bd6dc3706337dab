"""A rental from the first open door to the signed report: what money depends on.

Durations are counted on the boot clock, which nobody can set; a wall clock that jumps
changes labels and nothing else (I-29). What a power cut does to them is
`gateway.core.accounting`.
"""

from typing import Final

from gateway.core.moment import Moment
from gateway.core.reading import Reading
from gateway.core.state import Inspection, PinGuard, Rental, Reservation
from gateway.core.turn import Turn
from protocol.codes import AccessMeans, EndReason
from protocol.event import RentalEnded, RentalStarted, billed_minutes

GAIN_LIMIT_PCT: Final = 255
"""The report holds the gain in one byte."""


def begin(turn: Turn, reservation: Reservation, means: AccessMeans) -> None:
    """Start the rental: bolts read back open (C12), or a second driver's PIN (H11)."""
    reading = known(turn)
    turn.change(
        reservation=None,
        rental=Rental(
            reservation=reservation,
            means=means,
            started=turn.now,
            running_since_ms=turn.now.boot_ms,
            carried_ms=0,
            parked_since_ms=None,
            stay_carried_ms=0,
            parking_ms=0,
            start=reading,
            lowest_energy_pct=reading.energy_pct,
            refuel_gain_pct=0,
            refuelling=None,
            low_told=False,
            parking_chosen=None,
            driven=False,
            opened_ms=turn.now.boot_ms,
            pin=PinGuard(),
            pin_accepted=False,
            held=False,
            estimated=False,
            inspection=Inspection.DAMAGE,
        ),
    )
    turn.record(
        RentalStarted(
            rental_id=reservation.rental_id,
            means=means,
            odometer_m=reading.odometer_m,
            energy_pct=reading.energy_pct,
            washer_pct=reading.washer_pct,
            range_km=reading.range_km,
        )
    )


def end(turn: Turn, reason: EndReason, authority: bytes) -> None:
    """End the rental: report what happened, and forget the customer's secrets (C27)."""
    rental, reading, now = turn.rental, known(turn), turn.now
    total_ms = rental.carried_ms + now.boot_ms - rental.running_since_ms
    # A time off that was assumed in a stay and put right after another one, which was
    # in none, has shortened the whole only: then the whole was parking.
    parking_ms = min(rental.parking_ms + stay_ms(rental, now), total_ms)
    turn.record(
        RentalEnded(
            rental_id=rental.reservation.rental_id,
            reason=reason,
            authority=authority,
            started_wall_ms=rental.started.wall_ms,
            ended_wall_ms=now.wall_ms,
            started_quality=rental.started.quality,
            ended_quality=now.quality,
            estimated=rental.estimated,
            total_ms=total_ms,
            parking_ms=parking_ms,
            driving_min=billed_minutes(total_ms - parking_ms),
            parking_min=billed_minutes(parking_ms),
            start_odometer_m=rental.start.odometer_m,
            end_odometer_m=reading.odometer_m,
            distance_m=_distance_m(rental.start, reading),
            start_energy_pct=rental.start.energy_pct,
            end_energy_pct=reading.energy_pct,
            lowest_energy_pct=rental.lowest_energy_pct,
            refuel_gain_pct=min(rental.refuel_gain_pct, GAIN_LIMIT_PCT),
            start_washer_pct=rental.start.washer_pct,
            end_washer_pct=reading.washer_pct,
            range_km=reading.range_km,
            bits=reading.bits,
        )
    )
    turn.change(rental=None)


def stay_ms(rental: Rental, now: Moment) -> int:
    """Return the length of the present stay, 0 when the car is not parked."""
    if rental.parked_since_ms is None:
        return 0
    return rental.stay_carried_ms + now.boot_ms - rental.parked_since_ms


def known(turn: Turn) -> Reading:
    """Return the reading that a read-back has just brought."""
    reading = turn.state.reading
    if reading is None:
        raise LookupError("a read-back without a reading")
    return reading


def _distance_m(start: Reading, end: Reading) -> int | None:
    if start.odometer_m is None or end.odometer_m is None:
        return None
    # An odometer that went back was exchanged or reset: no distance is better than a
    # wrong one.
    distance = end.odometer_m - start.odometer_m
    return distance if distance >= 0 else None
