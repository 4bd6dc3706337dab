"""The last known state of a car, each field by itself.

Three sources tell fields: snapshots (in hellos and results), ledger events, telemetry.
They may arrive in any order: after an outage a rental that ended offline arrives behind
the HELLO that already shows its end. So each field keeps the stamp of the car's own
clock, and only a later stamp replaces it; time of arrival decides nothing
(protocol-design.md 7, fleet-telemetry #386).

What was not measured changes nothing: the field keeps its value and shows its age.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec

from bridge.presence import SILENCE_MS
from protocol.codes import KNOWN_BITS, Bits, Light, RentalMode
from protocol.event import (
    TYPE_OF,
    EngineReleased,
    EngineStarted,
    EngineStopped,
    EventBody,
    Parked,
    RefuelEnded,
    RefuelStarted,
    RentalEnded,
    RentalStarted,
    ReservationCancelled,
    ReservationExpired,
    ReservationStarted,
    Resumed,
)
from protocol.snapshot import NO_RENTAL, Snapshot
from protocol.telemetry import Sample

Value = str | int | float | bool | None
Values = Mapping[str, Value]

DEGREES_E7: Final = 10_000_000

_TOLD_WHEN_CHANGED: Final = frozenset(
    {"mode", "condition", "light", "energy_kind", "state_version", "rental_id"}
)
"""Fields that an event or a result tells at once."""

_BITS: Final = {int(bit): str(bit.name).lower() for bit in Bits}
_MODES: Final = {mode: mode.name.lower() for mode in RentalMode}
_LIGHTS: Final = {light: light.name.lower() for light in Light}


class Stamp(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """When, by the car's own clock; later boots are later."""

    boot_counter: int
    """From the session id."""
    mono_ms: int
    """The car's boot clock."""


class Field(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that is known of a car."""

    value: Value
    """What it is; units are in the field's name."""
    observed_ms: int | None
    """When the car observed it, UTC ms as well as is known."""
    received_ms: int
    """When the bridge received it, UTC ms."""
    stamp: Stamp
    """Orders it."""


class Latest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The newest sample of a car's telemetry, before it is spread over the fields.

    Most of a fleet's frames are samples, and most samples are replaced by the next one
    before anybody asks: so they are spread when somebody does.
    """

    sample: Sample
    """What was measured."""
    stamp: Stamp
    """Orders it."""
    observed_ms: int | None
    """When the car observed it, UTC ms as well as is known."""
    received_ms: int
    """When the bridge received it, UTC ms."""


def is_replaced(old: Sample, sample: Sample) -> bool:
    """Whether a later sample measured all that an older one did.

    Then that one need not be spread before it: each of its fields is older.
    """
    return (
        (old.latitude_e7 is None or sample.latitude_e7 is not None)
        and (old.longitude_e7 is None or sample.longitude_e7 is not None)
        and (old.accuracy_dm is None or sample.accuracy_dm is not None)
        and (old.heading_deg is None or sample.heading_deg is not None)
        and (old.speed_dkmh is None or sample.speed_dkmh is not None)
        and (old.odometer_m is None or sample.odometer_m is not None)
        and (old.energy_pct is None or sample.energy_pct is not None)
        and (old.range_km is None or sample.range_km is not None)
        and (old.washer_pct is None or sample.washer_pct is not None)
        and (old.supply_mv is None or sample.supply_mv is not None)
        and (old.signal_pct is None or sample.signal_pct is not None)
    )


Twin = dict[str, Field]
"""Fields by name; treat as a value: `advance` returns another."""


def advance(
    twin: Twin,
    values: Values,
    *,
    stamp: Stamp,
    observed_ms: int | None,
    received_ms: int,
    is_again: bool = False,
) -> Twin:
    """Return the twin with newer values; what is older than its field is left out.

    What is told again, perhaps, replaces nothing of the same stamp either.
    """
    at = (stamp.boot_counter, stamp.mono_ms)
    after, is_newer = dict(twin), False
    for name, value in values.items():
        known = twin.get(name)
        if known is not None:
            old = known.stamp
            known_at = (old.boot_counter, old.mono_ms)
            if known_at > at or (is_again and known_at == at):
                continue
        after[name] = Field(value, observed_ms, received_ms, stamp)
        is_newer = True
    return after if is_newer else twin


def spread(twin: Twin, latest: Latest | None, *, is_again: bool = False) -> Twin:
    """Return the twin with the newest sample in its fields."""
    if latest is None:
        return twin
    return advance(
        twin,
        values_of_sample(latest.sample),
        stamp=latest.stamp,
        observed_ms=latest.observed_ms,
        received_ms=latest.received_ms,
        is_again=is_again,
    )


def age_ms(field: Field, *, now: int) -> int:
    """Return how long ago a field was observed, as well as is known; 0 or more."""
    observed_ms = field.received_ms if field.observed_ms is None else field.observed_ms
    return max(now - observed_ms, 0)


def is_stale(name: str, field: Field, *, is_online: bool, now: int) -> bool:
    """Return whether a field may be otherwise by now.

    While a car is online it says within `SILENCE_MS` what a sample measures; what only
    changes with an event or a state's version stays true until it says otherwise. Of a
    car that is not online nothing is sure.
    """
    if not is_online:
        return True
    return name not in _TOLD_WHEN_CHANGED and age_ms(field, now=now) > SILENCE_MS


@lru_cache(maxsize=KNOWN_BITS + 1)
def values_of_bits(bits: int) -> Values:
    """Return each bit as a field; the same mapping for the same bits."""
    number = int(bits)
    return MappingProxyType({name: bool(number & bit) for bit, name in _BITS.items()})


def values_of_snapshot(snapshot: Snapshot) -> Values:
    """Return what a snapshot tells."""
    values: dict[str, Value] = {
        "mode": snapshot.mode.name.lower(),
        "condition": snapshot.condition.name.lower(),
        "light": snapshot.light.name.lower(),
        "energy_kind": snapshot.energy_kind.name.lower(),
        "state_version": snapshot.state_version,
        "rental_id": _rental(snapshot.rental_id),
        **values_of_bits(snapshot.bits),
    }
    measured = {
        "energy_pct": snapshot.energy_pct,
        "washer_pct": snapshot.washer_pct,
        "range_km": snapshot.range_km,
        "supply_mv": snapshot.supply_mv,
        "odometer_m": snapshot.odometer_m,
    }
    return values | _known(measured)


def values_of_sample(sample: Sample) -> Values:
    """Return what a telemetry sample tells."""
    values: dict[str, Value] = {
        "mode": _MODES[sample.mode],
        **values_of_bits(sample.bits),
    }
    measured: dict[str, Value] = {
        "heading_deg": sample.heading_deg,
        "odometer_m": sample.odometer_m,
        "energy_pct": sample.energy_pct,
        "range_km": sample.range_km,
        "washer_pct": sample.washer_pct,
        "supply_mv": sample.supply_mv,
        "signal_pct": sample.signal_pct,
        "latitude_deg": _scaled(sample.latitude_e7, DEGREES_E7),
        "longitude_deg": _scaled(sample.longitude_e7, DEGREES_E7),
        "accuracy_m": _scaled(sample.accuracy_dm, 10),
        "speed_kmh": _scaled(sample.speed_dkmh, 10),
    }
    return values | _known(measured)


_MODE_AFTER: Final[dict[type[object], tuple[RentalMode, Light]]] = {
    ReservationStarted: (RentalMode.RESERVED, Light.YELLOW),
    ReservationExpired: (RentalMode.AVAILABLE, Light.GREEN),
    ReservationCancelled: (RentalMode.AVAILABLE, Light.GREEN),
    RentalStarted: (RentalMode.STOPPED, Light.RED),
    EngineStarted: (RentalMode.DRIVING, Light.RED),
    EngineStopped: (RentalMode.STOPPED, Light.RED),
    Parked: (RentalMode.PARKED, Light.RED),
    Resumed: (RentalMode.STOPPED, Light.RED),
    RefuelStarted: (RentalMode.REFUELLING, Light.RED),
    RefuelEnded: (RentalMode.STOPPED, Light.RED),
    RentalEnded: (RentalMode.AVAILABLE, Light.GREEN),
}
"""The mode and the indicator that a car is in after an event (H15)."""

_FACTS_AFTER: Final[dict[type[object], dict[str, Value]]] = {
    RentalStarted: {"locked": False},
    EngineReleased: {"engine_released": True},
    EngineStarted: {"engine_running": True},
    EngineStopped: {"engine_running": False, "moving": False},
    Parked: {"locked": True},
    Resumed: {"locked": False},
}
"""What else is known to hold after an event."""

_LEVELS: Final = {
    "odometer_m": "odometer_m",
    "end_odometer_m": "odometer_m",
    "energy_pct": "energy_pct",
    "after_pct": "energy_pct",
    "end_energy_pct": "energy_pct",
    "washer_pct": "washer_pct",
    "end_washer_pct": "washer_pct",
    "range_km": "range_km",
}
"""Which field of an event measures which field of the twin."""

_LEVELS_OF: Final = {
    kind: [
        (field.name, _LEVELS[field.name])
        for field in fields(kind)  # type: ignore[arg-type] # all are dataclasses
        if field.name in _LEVELS
    ]
    for kind in TYPE_OF
}
"""The same by the kind of event."""


def values_of_event(body: EventBody) -> Values:
    """Return what a ledger event tells: a mode, facts, levels."""
    kind = type(body)
    values: dict[str, Value] = {}
    if kind in _MODE_AFTER:
        mode, light = _MODE_AFTER[kind]
        values["mode"] = _MODES[mode]
        values["light"] = _LIGHTS[light]
        rental_id: bytes = getattr(body, "rental_id", NO_RENTAL)
        values["rental_id"] = (
            None if mode is RentalMode.AVAILABLE else _rental(rental_id)
        )
    values |= _FACTS_AFTER.get(kind, {})
    if isinstance(body, RentalEnded):
        values |= values_of_bits(body.bits)
    return values | _known(
        {name: getattr(body, source) for source, name in _LEVELS_OF[kind]}
    )


def rental_of(twin: Twin) -> str | None:
    """Return the rental that the car is in, in hex, as far as is known."""
    found = twin.get("rental_id")
    return found.value if found is not None and isinstance(found.value, str) else None


def _rental(rental_id: bytes) -> str | None:
    return None if rental_id == NO_RENTAL else rental_id.hex()


def _known(values: Values) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}


def _scaled(value: int | None, scale: int) -> float | None:
    return None if value is None else value / scale
