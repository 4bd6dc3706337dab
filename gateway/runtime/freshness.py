"""How long what a device said may wait for its turn before it is no longer true."""

from typing import Final

from gateway.core.events import (
    BoardReported,
    CardPresented,
    DamageEntered,
    DestinationEntered,
    Event,
    MenuChosen,
    PinEntered,
    PumpEntered,
    RatingEntered,
)
from gateway.core.reading import STALE_MS
from protocol.command import SHORT_TTL_MS

_WORTH_MS: Final[dict[type[object], int]] = {
    # An older reading says nothing about the car of now (I-2); the next comes soon.
    BoardReported: STALE_MS,
    # As long as an unlock by command: somebody stands at the car and waits (I-6).
    CardPresented: SHORT_TTL_MS,
    PinEntered: SHORT_TTL_MS,
    MenuChosen: SHORT_TTL_MS,
    RatingEntered: SHORT_TTL_MS,
    DamageEntered: SHORT_TTL_MS,
    PumpEntered: SHORT_TTL_MS,
    DestinationEntered: SHORT_TTL_MS,
}
"""How long an event may wait for its turn; kinds that are not here, for ever."""


def is_outdated(event: Event, late_ms: int) -> bool:
    """Return whether an event has waited for too long to be believed."""
    limit_ms = _WORTH_MS.get(type(event))
    return limit_ms is not None and late_ms > limit_ms
