"""Cars whose state is kept in memory, so that a frame need not read and write it whole.

Theory of operation. What is known of a car is some kilobytes, and telemetry, most of
what a fleet says, changes it with every frame. The frame itself is stored in any case.
So for a store that only this process writes to, the state of a car is kept here as of
the last commit, and after a frame of telemetry alone it is not written: who loads it
from the store folds the frames that were stored since into it
(`bridge.rows.vehicles.load_vehicles`), and gets the same state.

Rule 1: what a transaction changes is seen by others after its commit and not before.
Rule 2: a state is written whenever anything but telemetry changed it, and at the latest
after `UNWRITTEN_LIMIT` frames, half of what the store keeps of a car's telemetry.
"""

from typing import Final

from sqlalchemy import Connection

from bridge.vehicle import VehicleState
from protocol.identity import VehicleId

KEPT_LIMIT: Final = 32_768
"""Cars, some 4 KB each; beyond it the ones that were met first are let go and read
again when they say something."""

UNWRITTEN_LIMIT: Final = 32
"""Frames of a car's telemetry behind its written state, of the 64 that are kept."""

OPTION: Final = "kept_vehicles"
"""The execution option by which a connection carries them."""


class KeptVehicles:
    """States as of the last commit; changed by the store's writer alone."""

    def __init__(self, limit: int = KEPT_LIMIT) -> None:
        self._limit = limit
        self._states: dict[VehicleId, VehicleState] = {}
        self._unwritten: dict[VehicleId, int] = {}
        self._staged: dict[VehicleId, tuple[VehicleState, bool]] = {}

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
            and self._unwritten.get(vehicle_id, 0) < UNWRITTEN_LIMIT - 1
        )

    def stage(
        self, vehicle_id: VehicleId, state: VehicleState, *, is_written: bool
    ) -> None:
        """Note a state that the transaction under way leaves, or has loaded."""
        self._staged[vehicle_id] = (state, is_written)

    def apply(self) -> None:
        """The transaction is committed."""
        for vehicle_id, (state, is_written) in self._staged.items():
            self._states[vehicle_id] = state
            if is_written:
                self._unwritten.pop(vehicle_id, None)
            else:
                count = self._unwritten.get(vehicle_id, 0)
                self._unwritten[vehicle_id] = count + 1
        self._staged.clear()
        while len(self._states) > self._limit:
            oldest = next(iter(self._states))
            del self._states[oldest]
            # Its frames since are in the store; how many is not known any more.
            self._unwritten.pop(oldest, None)

    def undo(self) -> None:
        """The transaction was undone."""
        self._staged.clear()


def kept_in(connection: Connection) -> KeptVehicles | None:
    """Return what a connection carries; None for a store that others write to."""
    kept = connection.get_execution_options().get(OPTION)
    return kept if isinstance(kept, KeptVehicles) else None
