"""What the car shows: indicator and display as functions of its state (H15, I-16).

Nothing else decides about either, so that neither can say something that is not so. An
indicator that is never green when the car cannot be rented follows from the order of
the rules below: faults first.
"""

from typing import Final

from gateway.core.prompts import NO_PROMPT, Prompt, PromptKey
from gateway.core.state import PinGuard, Rental, State
from protocol.codes import Bits, Condition, EnergyKind, FaultKind, Light, RentalMode
from protocol.snapshot import NO_RENTAL, Snapshot

PIN_ATTEMPTS: Final = 3
"""Wrong PINs before entry is blocked (H6)."""

PIN_BLOCKS: Final = 3
"""The block that only the fleet lifts (H6)."""

LOW_ENERGY_PCT: Final = 25
"""Below it, refuelling earns a bonus (N2)."""

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


def condition_of(state: State) -> Condition:
    """Return the technical axis."""
    if state.reading is None or state.faults & _BLINDING:
        return Condition.FAULT
    if FaultKind.STORAGE_FAILED in state.faults:
        return Condition.SERVICE
    if state.faults:
        return Condition.DEGRADED
    return Condition.OK


def light_of(state: State) -> tuple[Light, bool]:
    """Return what the indicator shows and whether it blinks."""
    if state.refusing_until_ms is not None:
        return Light.RED, True
    if condition_of(state) is Condition.FAULT:
        return Light.FAULT_PATTERN, True
    if state.mode is RentalMode.AVAILABLE and state.faults:
        # It could not be opened or driven: not free (H15).
        return Light.FAULT_PATTERN, True
    return _LIGHTS[state.mode], False


def prompt_of(state: State) -> Prompt:
    """Return what the display says."""
    if state.notice_until_ms is not None:
        return state.notice
    rental = state.rental
    if rental is None:
        return NO_PROMPT
    if state.mode is RentalMode.REFUELLING:
        return Prompt(
            PromptKey.FUEL_CARD_PIN,
            sealed=rental.reservation.sealed,
            rental_id=rental.reservation.rental_id,
        )
    if state.mode is RentalMode.DRIVING:
        return _driving(state)
    if state.mode is RentalMode.STOPPED:
        return _stopped(state, rental)
    return NO_PROMPT


def _driving(state: State) -> Prompt:
    level = state.reading.energy_pct if state.reading is not None else None
    if level is not None and level < LOW_ENERGY_PCT:
        return Prompt(PromptKey.ENERGY_LOW, (level,))
    return NO_PROMPT


def _stopped(state: State, rental: Rental) -> Prompt:
    if rental.parking_chosen is not None:
        chosen = rental.parking_chosen
        return Prompt(PromptKey.LOCK_TO_PARK if chosen else PromptKey.LOCK_TO_END)
    if rental.held:
        return Prompt(PromptKey.ENGINE_HELD)
    if not rental.pin_accepted:
        return _pin(rental.pin)
    if rental.driven:
        return Prompt(PromptKey.CHOOSE_NEXT)
    if state.reading is None or not state.reading.engine_released:
        return NO_PROMPT
    return Prompt(PromptKey.MAY_START)


def _pin(guard: PinGuard) -> Prompt:
    if guard.blocks >= PIN_BLOCKS:
        return Prompt(PromptKey.PIN_BLOCKED_FOR_GOOD)
    if guard.blocked_until_ms is not None:
        return Prompt(PromptKey.PIN_BLOCKED)
    return Prompt(PromptKey.ENTER_PIN, (PIN_ATTEMPTS - guard.wrong,))


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
