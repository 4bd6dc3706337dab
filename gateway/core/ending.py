"""What is missing to end a rental (H20).

A rental ends with the engine off, doors and boot closed, key and fuel card in their
holders where the car has them, and inside the business area if the fleet has told one.
As long as something is missing the car says what, stays rented and does not close.
"""

from typing import Final

from gateway.core.prompts import Line, LineKey, Prompt, PromptKey
from gateway.core.reading import Reading
from gateway.core.state import State

ACCURACY_LIMIT_DM: Final = 500
"""A fix that may be further off than 50 m says nothing about an area's edge (H17)."""

FIX_LIMIT_MS: Final = 600_000
"""So long a fix speaks for where the car is (assumed). A receiver that works tells one
every ten seconds. Ten minutes bridge the way into a garage, so that going under ground
is no way out of the area; after them a receiver that died holds no customer."""


def missing_prompt(state: State, now_ms: int) -> Prompt:
    """Return the prompt that tells what is missing."""
    lines = tuple(Line(key) for key in missing_to_end(state, now_ms))
    return Prompt(PromptKey.MISSING_TO_END, lines=lines)


def missing_to_end(state: State, now_ms: int) -> tuple[LineKey, ...]:
    """Return what is missing, as far as the board has said; empty for nothing."""
    reading = state.reading
    physical = () if reading is None else _missing_physically(reading)
    outside = (LineKey.MISSING_AREA,) if is_outside(state, now_ms) else ()
    return (*physical, *outside)


def _missing_physically(reading: Reading) -> tuple[LineKey, ...]:
    runs = reading.engine_running or reading.ignition_on or reading.moving
    missing = (
        (runs, LineKey.MISSING_ENGINE),
        (reading.door_open, LineKey.MISSING_DOORS),
        (reading.boot_open, LineKey.MISSING_BOOT),
        (not reading.key_present, LineKey.MISSING_KEY),
        (not reading.fuel_card_present, LineKey.MISSING_FUEL_CARD),
    )
    return tuple(key for is_missing, key in missing if is_missing)


def is_outside(state: State, now_ms: int) -> bool:
    """Return whether the car is known to be outside the business area.

    A place that nobody knows, under ground for instance or because the receiver died,
    holds no customer (I-19): it counts neither as outside nor as inside.

    Args:
        state: the car's; its position may be too old or too vague to count.
        now_ms: by the boot clock.
    """
    area, position = state.facts.area, state.position
    if area is None or position is None or position.accuracy_dm > ACCURACY_LIMIT_DM:
        return False
    if now_ms - state.position_at_ms > FIX_LIMIT_MS:
        return False
    return not area.contains(position.latitude_e7, position.longitude_e7)
