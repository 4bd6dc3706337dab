"""Durations over a power cut: what is known, what is assumed, what is put right (I-28).

Within one boot of the machine the boot clock counts, which nobody can set (I-29). When
the machine was off, the time it was off is told by the difference of two trusted times,
which the fleet or the satellites gave. Without them it is assumed from the wall clock,
for a day at the most, and put right as soon as somebody who is trusted tells the time
while the rental still runs. Either way the report says that it is an estimate: when
exactly the power went, nobody saw (protocol-design.md 1.3).
"""

from dataclasses import replace
from typing import Final

from gateway.core.moment import Moment
from gateway.core.state import Outage, Rental, Reservation
from gateway.core.turn import Turn
from protocol.codes import ClockQuality

GAP_LIMIT_MS: Final = 24 * 60 * 60 * 1_000
"""A longer gap is believed of trusted time only: a wall clock that jumped by years must
not bill them, whatever quality it claims (assumed: a car is back on power in a day)."""


TRUSTED_GAP_LIMIT_MS: Final = 30 * GAP_LIMIT_MS
"""A longer gap is believed of nobody: satellites' time is not signed, so somebody with
a transmitter could bill a customer as much as this allows (assumed: longer than any car
is without power in a rental)."""


def gap_ms(last: Moment, now: Moment) -> int | None:
    """Return how long the machine was off, None when no clock can tell."""
    if last.trusted_ms is not None and now.trusted_ms is not None:
        gap = now.trusted_ms - last.trusted_ms
        return gap if 0 <= gap <= TRUSTED_GAP_LIMIT_MS else None
    labelled = ClockQuality.UNSET not in {last.quality, now.quality}
    gap = now.wall_ms - last.wall_ms
    return gap if labelled and 0 <= gap <= GAP_LIMIT_MS else None


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
        outage=_outage(rental, last, now, gap),
    )


def _outage(rental: Rental, last: Moment, now: Moment, gap: int) -> Outage | None:
    """Return what is left to be put right after one more reboot."""
    is_parked = rental.parked_since_ms is not None
    before = rental.outage
    if before is not None and last.trusted_ms is None:
        # Nobody told the time in between: both times off are one, and the parking of
        # both only counts as such if the car was parked through both.
        between_ms = last.boot_ms - before.began_ms
        return Outage(
            trusted_ms=before.trusted_ms,
            began_ms=now.boot_ms,
            assumed_ms=before.assumed_ms + between_ms + gap,
            parked=before.parked and is_parked,
        )
    if last.trusted_ms is None or now.trusted_ms is not None:
        return None
    return Outage(last.trusted_ms, now.boot_ms, gap, is_parked)


def put_right(turn: Turn) -> None:
    """Replace an assumed time off by the true one, once somebody has told the time.

    A time that would lie before the power went, or a month after, changes nothing.
    """
    rental, trusted_ms = turn.state.rental, turn.now.trusted_ms
    outage = None if rental is None else rental.outage
    if rental is None or outage is None or trusted_ms is None:
        return
    true_ms = trusted_ms - (turn.now.boot_ms - outage.began_ms) - outage.trusted_ms
    turn.change_rental(outage=None)
    if not 0 <= true_ms <= TRUSTED_GAP_LIMIT_MS:
        return
    more_ms = true_ms - outage.assumed_ms
    turn.change_rental(carried_ms=rental.carried_ms + more_ms)
    if not outage.parked:
        return
    if rental.parked_since_ms is None:
        turn.change_rental(parking_ms=rental.parking_ms + more_ms)
    else:
        turn.change_rental(stay_carried_ms=rental.stay_carried_ms + more_ms)


def reservation_after_reboot(
    reservation: Reservation, last: Moment, now: Moment
) -> Reservation:
    """Carry a reservation over a reboot.

    When no clock of quality tells how long the machine was off, the reservation ends at
    once: it must never outlive the fleet's own end (H1). A car without a battery clock
    boots with the last time that it knew, as if it had not been off at all. A time
    server is believed here, and nowhere else: at the first instant after a boot neither
    fleet nor satellites have told the time yet, and who reserved would stand before a
    car that has forgotten it. A lie buys no more than what was left.
    """
    is_told = last.quality.trusted and now.quality.trusted
    gap = gap_ms(last, now) if is_told else None
    left_ms = 0 if gap is None else reservation.until_ms - last.boot_ms - gap
    return replace(reservation, until_ms=now.boot_ms + max(0, left_ms))
