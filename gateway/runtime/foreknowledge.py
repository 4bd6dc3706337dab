"""What the mind is told first, since its decision about an event may turn on it."""

from typing import Final

from gateway.core.events import (
    BoardReported,
    CardPresented,
    CommandReceived,
    Event,
    PinChecked,
    PositionFixed,
    RoomChanged,
)
from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.ports import Positioning, Store
from gateway.runtime.room import room_of

MOVED_MS: Final = 1_000
"""A car that moves tells its mind at most so often where it is."""

STANDS_MS: Final = 10_000
"""One that stands, so that its fix is never too old for a geofence (H17)."""

LOOK_PERIOD_MS: Final = 10_000
"""So often the room is measured though nothing asks for it: no indicator promises for
longer what a card would be refused (H15). It costs one call of the kernel."""


class Foreknowledge:
    """Looks at what changes without saying so.

    Args:
        store: asked for room.
        positioning: where the car is.
    """

    def __init__(self, *, store: Store, positioning: Positioning) -> None:
        self._store = store
        self._positioning = positioning
        self._measured_ms: int | None = None

    def before(self, event: Event, state: State, *, now: Moment) -> Event | None:
        """Return what is to be stepped before an event, None for nothing."""
        match event:
            case BoardReported():
                crowded = self._crowded(state, now) if self._is_due(now) else None
                return crowded or self._moved(state, now)
            case CardPresented() | CommandReceived() | PinChecked():
                # Others fill the disk too, so it is asked when it counts (I-20).
                return self._crowded(state, now)
            case _:
                return None

    def _is_due(self, now: Moment) -> bool:
        measured_ms = self._measured_ms
        return measured_ms is None or now.boot_ms - measured_ms >= LOOK_PERIOD_MS

    def _crowded(self, state: State, now: Moment) -> RoomChanged | None:
        self._measured_ms = now.boot_ms
        room = room_of(self._store)
        return None if room is state.room else RoomChanged(room)

    def _moved(self, state: State, now: Moment) -> PositionFixed | None:
        """Tell where the car is, as often as the board reports (C18)."""
        position = self._positioning.fix()
        if position is None:
            return None
        age_ms = now.boot_ms - position.age_ms - state.position_at_ms
        wait_ms = STANDS_MS if position == state.position else MOVED_MS
        is_due = state.position is None or age_ms >= wait_ms
        return PositionFixed(position) if is_due else None
