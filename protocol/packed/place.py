"""`protocol.place` again, by hand."""

from typing import Final

from protocol.packed.record import (
    ID,
    MEASURED_U16,
    U16,
    U64,
    Packed,
    exactly,
    nested,
    within,
)
from protocol.place import E7, EventPlace, Place

LATITUDE_E7: Final = within("i", -90 * E7, 90 * E7)
LONGITUDE_E7: Final = within("i", -180 * E7, 180 * E7)

PLACE: Final = Packed(Place, LATITUDE_E7, LONGITUDE_E7, MEASURED_U16, U16)
EVENT_PLACE: Final = Packed(EventPlace, exactly(8), U64, ID, nested(PLACE))
