"""Cars whose state is kept in memory, so that a frame need not read and write it whole.

Theory of operation. What is known of a car is some kilobytes, and telemetry, most of
what a fleet says, changes it with every frame. The frame itself is stored in any case.
So for a store that only this process writes to, the state of a car is kept here as of
the last commit, and after a frame of telemetry alone it is not written. It is written
when anything else changed it, when the bridge stops, and when 180 s have gone by since
(`bridge.rows.vehicles.tell_silence`). After a crash the frames that came since then are
folded into it when the store is opened (`bridge.rows.vehicles.catch_up`).

Nor is such a frame folded into the state at once: some wait beside it, and are folded
together when there are `FRAMES_MOST` of them or when somebody asks.

Rule 1: what a transaction changes is seen by others after its commit and not before.
Rule 2: what is not written is kept, however many cars there are.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from sqlalchemy import Connection

from bridge.sampling import Told, folded
from bridge.vehicle import VehicleState
from protocol.identity import VehicleId

KEPT_LIMIT: Final = 32_768
"""Cars, some 4 KB each; beyond it the ones that were met first are let go and read
again when they say something."""

FRAMES_MOST: Final = 4
"""Frames of a car that wait, 0.6 KB each. Folded four together a frame cost 5.0 to 5.4
µs, by itself 7 to 11 (measured); eight would save half a microsecond more, and twice as
much would have to be folded for whoever asks."""

OPTION: Final = "kept_vehicles"
"""The execution option by which a connection carries them."""


_Kept = tuple[VehicleState, tuple[Told, ...], int]
"""A state, the frames that came since, and at how many they are folded into it."""


class KeptVehicles:
    """States as of the last commit; changed by the store's writer alone."""

    def __init__(self, limit: int = KEPT_LIMIT) -> None:
        self._limit = limit
        self._states: dict[VehicleId, _Kept] = {}
        self._unwritten: set[VehicleId] = set()
        self._staged: dict[VehicleId, _Kept] = {}
        self._staged_unwritten: set[VehicleId] = set()

    def get(self, vehicle_id: VehicleId) -> VehicleState | None:
        """Return a car's state as of the last commit, or None if it is not kept."""
        # One look: the writer may replace both halves meanwhile.
        kept = self._states.get(vehicle_id)
        if kept is None:
            return None
        state, waiting, _ = kept
        return folded(state, waiting) if waiting else state

    def may_wait(self, vehicle_id: VehicleId) -> bool:
        """Whether frames of telemetry alone change nothing that anybody waits for.

        A state that was never written, or of which consumers are to be told something,
        must be changed and written at once: one of a car that they think is offline, or
        that ended its connection.
        """
        kept = self._states.get(vehicle_id)
        if kept is None:
            return False
        presence = kept[0].presence
        return (
            presence.is_told_online
            and presence.ended is None
            and len(self._states) < self._limit
        )

    def unwritten(self) -> dict[VehicleId, VehicleState]:
        """Return the states that are not written as they are."""
        return {
            vehicle_id: folded(*self._states[vehicle_id][:2])
            for vehicle_id in self._unwritten
        }

    def stage(self, states: Mapping[VehicleId, VehicleState]) -> None:
        """Note states that the transaction under way writes."""
        # Not all begin to count at one: cars that greet together, as after an outage,
        # and then speak at the same pace would all be folded in the same second.
        self._staged.update(
            (one, (state, (), 1 + one.raw[-1] % FRAMES_MOST))
            for one, state in states.items()
        )
        self._staged_unwritten.difference_update(states)

    def wait(self, vehicle_id: VehicleId, told: Told) -> None:
        """Note a frame that the transaction under way stores; `may_wait` said yes."""
        kept = self._staged.get(vehicle_id) or self._states[vehicle_id]
        state, waiting, most = kept
        waiting = (*waiting, told)
        if len(waiting) >= most:
            state, waiting, most = folded(state, waiting), (), FRAMES_MOST
        self._staged[vehicle_id] = (state, waiting, most)
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
