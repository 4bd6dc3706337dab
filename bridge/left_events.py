"""Events that a sink has seen and left in the store: what one vehicle has too much of.

A vehicle may tell more than a consumer takes of it, one after another as it must, or
have an event that the consumer never takes. What it tells beyond some events stays in
the store, and here only its positions, so that the sink goes on to what others tell
(I-31). When the vehicle's turn comes they are read by their positions.
"""

from array import array
from dataclasses import dataclass, field
from typing import Final

from protocol.identity import VehicleId

BYTES_EACH: Final = "q"
"""Positions are kept as 8 bytes each, as the database has them."""


@dataclass(slots=True)
class _Positions:
    """Of one vehicle, rising."""

    all: "array[int]" = field(default_factory=lambda: array(BYTES_EACH))
    begun: int = 0
    """How many of them are gone."""

    def drop(self, count: int) -> bool:
        """Forget the first ones; return whether there are others."""
        self.begun += count
        if self.begun == len(self.all):
            return False
        if 2 * self.begun > len(self.all):
            del self.all[: self.begun]
            self.begun = 0
        return True


class LeftEvents:
    """Positions by vehicle; belongs to one sink."""

    def __init__(self) -> None:
        self._of: dict[VehicleId, _Positions] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, vehicle_id: VehicleId) -> bool:
        return vehicle_id in self._of

    @property
    def oldest(self) -> int | None:
        """The first position of all, or None."""
        return min((one.all[one.begun] for one in self._of.values()), default=None)

    def clear(self) -> None:
        """Forget all."""
        self._of.clear()
        self._count = 0

    def add(self, vehicle_id: VehicleId, position: int) -> None:
        """Leave an event, behind those of its vehicle that were left before."""
        self._of.setdefault(vehicle_id, _Positions()).all.append(position)
        self._count += 1

    def first(self, vehicle_id: VehicleId, limit: int) -> list[int]:
        """Return the oldest positions of a vehicle, at most `limit`."""
        found = self._of.get(vehicle_id)
        if found is None:
            return []
        return list(found.all[found.begun : found.begun + limit])

    def drop(self, vehicle_id: VehicleId, count: int) -> None:
        """Forget the oldest positions of a vehicle; it has as many."""
        self._count -= count
        if not self._of[vehicle_id].drop(count):
            del self._of[vehicle_id]
