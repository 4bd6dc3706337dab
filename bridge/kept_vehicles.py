"""Cars whose state is kept in memory, so that a frame need not read and write it whole.

Theory of operation. What is known of a car is some kilobytes, and telemetry, most of
what a fleet says, changes it with every frame. The frame itself is stored in any case.
So for a store that only this process writes to, the state of a car is kept here as of
the last commit, and after a frame of telemetry alone it is not written. It is written
when anything else changed it, when the bridge stops, and when 180 s have gone by since
(`bridge.rows.vehicles.tell_silence`). After a crash the frames that came since then are
folded into it when the store is opened (`bridge.rows.vehicles.catch_up`).

Rule 1: what a transaction changes is seen by others after its commit and not before.
Rule 2: what is not written is kept, however many cars there are.
"""

from itertools import islice
from typing import Final

from sqlalchemy import Connection

from bridge.vehicle import VehicleState
from protocol.identity import VehicleId

KEPT_LIMIT: Final = 32_768
"""Cars, some 4 KB each; beyond it the ones that were met first are let go and read
again when they say something."""

OPTION: Final = "kept_vehicles"
"""The execution option by which a connection carries them."""


class KeptVehicles:
    """States as of the last commit; changed by the store's writer alone."""

    def __init__(self, limit: int = KEPT_LIMIT) -> None:
        self._limit = limit
        self._states: dict[VehicleId, VehicleState] = {}
        self._unwritten: set[VehicleId] = set()
        self._staged: dict[VehicleId, VehicleState] = {}
        self._staged_unwritten: set[VehicleId] = set()

    def get(self, vehicle_id: VehicleId) -> VehicleState | None:
        """Return a car's state as of the last commit, or None if it is not kept."""
        return self._states.get(vehicle_id)

    def may_wait(self, vehicle_id: VehicleId, state: VehicleState) -> bool:
        """Whether a state that only telemetry changed need not be written now.

        A state that consumers are to be told of, or that was never written, must be.
        """
        kept = self._states.get(vehicle_id)
        return (
            kept is not None
            and state.presence.is_told_online
            and kept.presence.is_told_online
            and len(self._states) < self._limit
        )

    def unwritten(self) -> dict[VehicleId, VehicleState]:
        """Return the states that are not written as they are."""
        return {vehicle_id: self._states[vehicle_id] for vehicle_id in self._unwritten}

    def stage(
        self, vehicle_id: VehicleId, state: VehicleState, *, is_written: bool
    ) -> None:
        """Note a state that the transaction under way leaves, or has loaded."""
        self._staged[vehicle_id] = state
        if is_written:
            self._staged_unwritten.discard(vehicle_id)
        else:
            self._staged_unwritten.add(vehicle_id)

    def apply(self) -> None:
        """The transaction is committed."""
        self._states.update(self._staged)
        self._unwritten.difference_update(self._staged)
        self._unwritten.update(self._staged_unwritten)
        self.undo()
        if len(self._states) > self._limit:
            written = (one for one in self._states if one not in self._unwritten)
            over = len(self._states) - self._limit
            for oldest in list(islice(written, over)):
                del self._states[oldest]

    def undo(self) -> None:
        """The transaction was undone."""
        self._staged.clear()
        self._staged_unwritten.clear()


def kept_in(connection: Connection) -> KeptVehicles | None:
    """Return what a connection carries; None for a store that others write to."""
    kept = connection.get_execution_options().get(OPTION)
    return kept if isinstance(kept, KeptVehicles) else None
