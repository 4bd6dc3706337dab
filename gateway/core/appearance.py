"""What the car shows: condition, indicator and snapshot as functions of its state.

Nothing else decides about them, so that none can say something that is not so (H15,
I-16); the display's part is `gateway.core.dialogue`. An indicator that is never green
when the car cannot be rented follows from the order of the rules below: faults first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.state import State
from protocol.codes import Bits, Condition, EnergyKind, FaultKind, Light, RentalMode
from protocol.snapshot import NO_RENTAL, Snapshot

PIN_ATTEMPTS: Final = 3
"""Wrong PINs before entry is blocked (H6)."""

PIN_BLOCKS: Final = 3
"""The block that only the fleet lifts (H6)."""

LOW_ENERGY_PCT: Final = 25
"""Below it, refuelling earns a bonus (N2)."""

SHORT_RANGE_KM: Final = 15
"""What is left at the end must be more; exactly so much is too little (N4, H4)."""

_LIGHTS: Final = {
    RentalMode.AVAILABLE: Light.GREEN,
    RentalMode.RESERVED: Light.YELLOW,
    RentalMode.STOPPED: Light.RED,
    RentalMode.DRIVING: Light.RED,
    RentalMode.PARKED: Light.RED,
    RentalMode.REFUELLING: Light.RED,
}

_BLINDING: Final = frozenset({FaultKind.BOARD_SILENT})
"""Faults under which nobody knows the state of locks and engine."""

_IN_WHICH_IT_IS_GIVEN_BACK: Final = frozenset({Condition.OK, Condition.DEGRADED})
"""What a rental that runs would not end by does not keep it from being given back."""


@dataclass(frozen=True, slots=True)
class Reason:
    """When a car is in a condition."""

    condition: Condition
    """Which."""
    words: str
    """When, for people."""
    holds: Callable[[State], bool]
    """The same, for the car."""


def _is_blind(state: State) -> bool:
    """Return whether nobody knows bolts and engine."""
    return state.reading is None or bool(state.faults & _BLINDING)


def _lacks_room(state: State) -> bool:
    """Return whether the disk could not record the rental that is offered (I-20)."""
    if state.mode is RentalMode.AVAILABLE:
        return not state.room.takes_rental
    return state.mode is RentalMode.RESERVED and not state.room.keeps_promise


CONDITIONS: Final = (
    Reason(
        Condition.FAULT,
        "the board is silent or has not reported yet: nobody knows bolts and engine",
        _is_blind,
    ),
    Reason(
        Condition.FAULT,
        "the ledger was lost: nobody knows who has the car, until the fleet says so by "
        "RESERVE or SERVICE off",
        lambda state: state.is_lost,
    ),
    Reason(
        Condition.UPDATE,
        "the car's own program is being exchanged",
        lambda state: state.updating,
    ),
    Reason(
        Condition.SERVICE,
        "a technician has the car; or its disk takes nothing: then the fault pattern",
        lambda state: (
            state.workshop is not None or FaultKind.STORAGE_FAILED in state.faults
        ),
    ),
    Reason(
        Condition.DEGRADED,
        "something does not work, such as the card reader; or the disk has no room for "
        "the rental that could begin",
        lambda state: bool(state.faults) or _lacks_room(state),
    ),
    Reason(Condition.OK, "else", lambda _state: True),
)
"""The technical axis: the first row that holds is the car's condition."""


def reason_of(state: State) -> Reason:
    """Return why the car is in the condition that it is in."""
    return next(row for row in CONDITIONS if row.holds(state))


def condition_of(state: State) -> Condition:
    """Return the technical axis."""
    return reason_of(state).condition


def is_rentable(state: State) -> bool:
    """Return whether a rental can begin, as far as the car is concerned.

    Nothing is broken, nobody works on it and, if nobody has the car, its disk has room.
    """
    return condition_of(state) is Condition.OK


def may_be_reserved(state: State) -> bool:
    """Return whether the fleet may reserve the car, as far as its condition goes.

    A car that lost its ledger takes the fleet's word also while something small is
    broken: it may give a rental back, and a dead reader would not have ended that
    (I-19).
    """
    if not state.is_lost:
        return is_rentable(state)
    known = replace(state, faults=state.faults - {FaultKind.LEDGER_LOST})
    return condition_of(known) in _IN_WHICH_IT_IS_GIVEN_BACK


@dataclass(frozen=True, slots=True)
class LampRule:
    """When the indicator shows what."""

    words: str
    """When, for people."""
    holds: Callable[[State], bool]
    """The same, for the car."""
    light: Light | None = None
    """Which light; None for that of the mode."""
    blinking: bool = False
    """Whether it blinks."""


LAMP: Final = (
    LampRule(
        "a card or an order was just refused",
        lambda state: state.refusing_until_ms is not None,
        Light.RED,
        blinking=True,
    ),
    LampRule(
        "the board is silent or has not reported yet",
        _is_blind,
        Light.FAULT_PATTERN,
        blinking=True,
    ),
    LampRule(
        # Not green, as somebody may have it, and not blue under a technician either:
        # it is the fleet that must act (H15, I-16).
        "the ledger was lost, and the fleet has not said who has the car",
        lambda state: state.is_lost,
        Light.FAULT_PATTERN,
        blinking=True,
    ),
    LampRule(
        "a technician has the car, or its program is being exchanged",
        lambda state: state.workshop is not None or state.updating,
        Light.BLUE,
    ),
    LampRule(
        # It would refuse whoever comes: not free (H15).
        "the car is free and no rental can begin: DEGRADED, or a disk that takes "
        "nothing",
        lambda state: state.mode is RentalMode.AVAILABLE and not is_rentable(state),
        Light.FAULT_PATTERN,
        blinking=True,
    ),
    LampRule("else: the light of the mode", lambda _state: True),
)
"""The indicator: the first row that holds decides (H15)."""


def lamp_rule_of(state: State) -> LampRule:
    """Return the rule by which the indicator shows what it shows."""
    return next(rule for rule in LAMP if rule.holds(state))


def light_of(state: State) -> tuple[Light, bool]:
    """Return what the indicator shows and whether it blinks."""
    rule = lamp_rule_of(state)
    light = _LIGHTS[state.mode] if rule.light is None else rule.light
    return light, rule.blinking


def snapshot_of(state: State) -> Snapshot:
    """Return the state as results and hellos carry it."""
    reading = state.reading
    light, _blinking = light_of(state)
    rental_id = state.rental_id
    if reading is None:
        return Snapshot(
            mode=state.mode,
            condition=condition_of(state),
            light=light,
            energy_kind=EnergyKind.FUEL,
            state_version=state.version,
            rental_id=NO_RENTAL if rental_id is None else rental_id,
            bits=Bits(0),
            energy_pct=None,
            washer_pct=None,
            range_km=None,
            supply_mv=None,
            odometer_m=None,
        )
    return Snapshot(
        mode=state.mode,
        condition=condition_of(state),
        light=light,
        energy_kind=reading.energy_kind,
        state_version=state.version,
        rental_id=NO_RENTAL if rental_id is None else rental_id,
        bits=reading.bits,
        energy_pct=reading.energy_pct,
        washer_pct=reading.washer_pct,
        range_km=reading.range_km,
        supply_mv=reading.supply_mv,
        odometer_m=reading.odometer_m,
    )
