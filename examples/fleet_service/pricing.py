"""What a rental costs: pure, and exact to the cent.

Numbers and rules of requirements.md: N5 (minute prices), N3, B20 and H5 (refuel bonus),
H18 and B23 (washer bonus), N4, H4 and B21 (residual range), N7 (manual refuelling).

Minutes come from the car's signed report, already rounded there: driving and parking
each up to the next whole minute. Money is `Decimal`, never binary floating point.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices and thresholds; the defaults are the requirements'."""

    driving_minute: Decimal = Decimal("0.32")
    """EUR (N5)."""
    parking_minute: Decimal = Decimal("0.15")
    """EUR (N5)."""
    refuel_bonus_min: int = 30
    """Minutes for bringing a low car fuel, once a rental (N3, H5)."""
    refuel_below_pct: int = 25
    """The level must have been below this (N2, B20)."""
    refuel_gain_pct: int = 10
    """By how many points it must have risen (H5)."""
    washer_bonus_min: int = 10
    """Minutes for filling washer fluid (H18)."""
    washer_full_pct: int = 90
    """The level that it must have at the end (H18)."""
    washer_gain_pct: int = 30
    """By how many points it must have risen (H18)."""
    range_limit_km: int = 15
    """At this residual range or less the driver pays for refuelling (N4, H4)."""
    manual_refuel: Decimal = Decimal("50.00")
    """EUR (N7, B21)."""


CARD: Final = Tariff()
"""The tariff of the requirements."""


class ReportError(ValueError):
    """A report that cannot be priced; a person must look at it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What of a car's report money depends on; None means "not measured"."""

    driving_min: int
    parking_min: int
    lowest_energy_pct: int | None
    refuel_gain_pct: int
    start_washer_pct: int | None
    end_washer_pct: int | None
    range_km: int | None

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> "Report":
        """Read the ``data`` of a ``freefloat.rental.ended`` event.

        Raises:
            ReportError: a field is missing or no number.
        """
        return cls(
            driving_min=_count(data, "driving_min"),
            parking_min=_count(data, "parking_min"),
            lowest_energy_pct=_level(data, "lowest_energy_pct"),
            refuel_gain_pct=_count(data, "refuel_gain_pct"),
            start_washer_pct=_level(data, "start_washer_pct"),
            end_washer_pct=_level(data, "end_washer_pct"),
            range_km=_level(data, "range_km"),
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice."""

    text: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Invoice:
    """What the customer pays, and the bonus account afterwards."""

    lines: tuple[Line, ...]
    total: Decimal
    bonus_used_min: int
    bonus_earned_min: int
    bonus_balance_min: int

    def to_json(self) -> dict[str, object]:
        """Return it with money as text, so that no reader makes a float of it."""
        return {
            "currency": "EUR",
            "lines": [{"text": x.text, "amount": str(x.amount)} for x in self.lines],
            "total": str(self.total),
            "bonus_used_min": self.bonus_used_min,
            "bonus_earned_min": self.bonus_earned_min,
            "bonus_balance_min": self.bonus_balance_min,
        }


def price(report: Report, *, bonus_min: int = 0, tariff: Tariff = CARD) -> Invoice:
    """Price a rental.

    Args:
        report: what the car signed.
        bonus_min: the customer's bonus minutes before; they pay for driving. What this
            rental earns counts from the next one on.
        tariff: prices and thresholds.
    """
    used = min(bonus_min, report.driving_min)
    earned = bonus_of(report, tariff)
    lines = [
        Line(
            _minutes(report.driving_min, "driving"),
            report.driving_min * tariff.driving_minute,
        ),
        Line(
            _minutes(report.parking_min, "parking"),
            report.parking_min * tariff.parking_minute,
        ),
    ]
    if used:
        lines.append(Line(_minutes(used, "bonus"), -used * tariff.driving_minute))
    if is_left_empty(report, tariff):
        lines.append(
            Line(f"refuelling: {report.range_km} km were left", tariff.manual_refuel)
        )
    total = sum((line.amount for line in lines), Decimal("0.00"))
    return Invoice(tuple(lines), total, used, earned, bonus_min - used + earned)


def bonus_of(report: Report, tariff: Tariff = CARD) -> int:
    """Return the bonus minutes that a rental earns."""
    minutes = 0
    lowest = report.lowest_energy_pct
    if (
        lowest is not None
        and lowest < tariff.refuel_below_pct
        and report.refuel_gain_pct >= tariff.refuel_gain_pct
    ):
        minutes += tariff.refuel_bonus_min
    start, end = report.start_washer_pct, report.end_washer_pct
    if (
        start is not None
        and end is not None
        and end >= tariff.washer_full_pct
        and end - start >= tariff.washer_gain_pct
    ):
        minutes += tariff.washer_bonus_min
    return minutes


def is_left_empty(report: Report, tariff: Tariff = CARD) -> bool:
    """Return whether the driver pays for refuelling; exactly 15 km is too little."""
    return report.range_km is not None and report.range_km <= tariff.range_limit_km


def _minutes(count: int, kind: str) -> str:
    return f"{count} {kind} minute{'' if count == 1 else 's'}"


def _count(data: Mapping[str, object], name: str) -> int:
    value = _level(data, name)
    if value is None:
        raise ReportError(f"{name} is missing in the report")
    return value


def _level(data: Mapping[str, object], name: str) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ReportError(f"{name} is no whole number from 0 in the report")
    return value
