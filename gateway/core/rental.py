"""A rental from the first open door to the signed report: what money depends on.

Durations are counted on the boot clock, which nobody can set; a wall clock that jumps
changes labels and nothing else (I-29). When the machine itself was off, the gap is
bridged by the wall clock as far as it is known, and the report says that it is an
estimate (protocol-design.md 1.3).
"""

from dataclasses import replace
from typing import Final

from gateway.core.moment import Moment
from gateway.core.reading import Reading
from gateway.core.state import Inspection, Pending, PinGuard, Rental, Reservation
from gateway.core.turn import Turn
from protocol.codes import AccessMeans, ClockQuality, EndReason
from protocol.event import RentalEnded, RentalStarted, billed_minutes

GAIN_LIMIT_PCT: Final = 255
"""The report holds the gain in one byte."""


def begin(turn: Turn, reservation: Reservation, pending: Pending) -> None:
    """Start the rental: the bolts have been read back open (C12)."""
    reading = known(turn)
    turn.change(
        reservation=None,
        rental=Rental(
            reservation=reservation,
            means=pending.means,
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
            means=pending.means,
            odometer_m=reading.odometer_m,
            energy_pct=reading.energy_pct,
            washer_pct=reading.washer_pct,
            range_km=reading.range_km,
        )
    )


def end(turn: Turn, pending: Pending) -> None:
    """End the rental: report what happened, and forget the customer's secrets (C27)."""
    rental, reading, now = turn.rental, known(turn), turn.now
    total_ms = rental.carried_ms + now.boot_ms - rental.running_since_ms
    parking_ms = rental.parking_ms + stay_ms(rental, now)
    turn.record(
        RentalEnded(
            rental_id=rental.reservation.rental_id,
            reason=(
                EndReason.CARD
                if pending.means is AccessMeans.CARD
                else EndReason.COMMAND
            ),
            authority=pending.authority,
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


GAP_LIMIT_MS: Final = 24 * 60 * 60 * 1_000
"""A longer gap is believed of a trusted clock only: a battery clock that jumped by
years must not bill them (assumed: a car is back on power within a day)."""


def gap_ms(last: Moment, now: Moment) -> int | None:
    """Return how long the machine was off, None when no clock can tell."""
    labelled = ClockQuality.UNSET not in {last.quality, now.quality}
    gap = now.wall_ms - last.wall_ms
    if not labelled or gap < 0:
        return None
    trusted = last.quality.trusted and now.quality.trusted
    return gap if trusted or gap <= GAP_LIMIT_MS else None


def after_reboot(rental: Rental, last: Moment, now: Moment) -> Rental:
    """Carry a rental over a reboot: instants of the old boot become durations.

    Args:
        rental: as it was last committed.
        last: when that was, on the old boot's clock.
        now: the first instant of the new boot.
    """
    gap = gap_ms(last, now) or 0
    carried_ms = rental.carried_ms + last.boot_ms - rental.running_since_ms + gap
    stay_carried_ms, parked_since_ms = rental.stay_carried_ms, rental.parked_since_ms
    if parked_since_ms is not None:
        stay_carried_ms += last.boot_ms - parked_since_ms + gap
        parked_since_ms = now.boot_ms
    payment = rental.payment
    if payment is not None:
        # The fleet may still answer; its minute goes on where it stood.
        left_ms = max(0, payment.until_ms - last.boot_ms)
        payment = replace(payment, until_ms=now.boot_ms + left_ms)
    return replace(
        rental,
        carried_ms=carried_ms,
        running_since_ms=now.boot_ms,
        stay_carried_ms=stay_carried_ms,
        parked_since_ms=parked_since_ms,
        opened_ms=now.boot_ms,
        payment=payment,
        estimated=True,
    )


def reservation_after_reboot(
    reservation: Reservation, last: Moment, now: Moment
) -> Reservation:
    """Carry a reservation over a reboot.

    When no trusted clock tells how long the machine was off, the reservation ends at
    once: it must never outlive the fleet's own end (H1). A car without a battery clock
    boots with the last time that it knew, as if it had not been off at all.
    """
    is_told = last.quality.trusted and now.quality.trusted
    gap = gap_ms(last, now) if is_told else None
    left_ms = 0 if gap is None else reservation.until_ms - last.boot_ms - gap
    return replace(reservation, until_ms=now.boot_ms + max(0, left_ms))
