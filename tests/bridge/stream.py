"""The ledger of a short rental, the same bytes each time."""

from typing import Final

from protocol.codes import AccessMeans
from protocol.event import AgentStarted, EventBody, Parked, RentalStarted, Resumed
from tests.bridge.car import RENTAL, REPORT, Car

BODIES: Final[tuple[EventBody, ...]] = (
    AgentStarted(1, bytes(4)),
    RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400),
    Parked(RENTAL, AccessMeans.CARD, 1_005_000),
    Resumed(RENTAL, AccessMeans.CARD, 60_000),
    REPORT,
)

TYPES: Final = [
    "freefloat.agent.started",
    "freefloat.rental.started",
    "freefloat.rental.parked",
    "freefloat.rental.resumed",
    "freefloat.rental.ended",
]
"""What a consumer hears of it."""


def entries_of(car: Car) -> list[bytes]:
    """Return its entries as the car signs them; of a new car only."""
    return [car.event(body) for body in BODIES]
