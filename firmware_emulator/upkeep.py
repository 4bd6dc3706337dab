"""What of an emulated car wears out, and what its slow sensors say of it.

Figures of a car that came from its service a while ago; a scenario changes them, and
the board reports what they are (docs/board-protocol.md, SENSORS).
"""

from dataclasses import dataclass
from typing import Final

from protocol.board.message import Plug, Sensors, Tyres

MM_PER_KM: Final = 1_000_000


@dataclass(slots=True)
class Upkeep:
    """Wear, service and the charging socket."""

    plug: Plug = Plug.UNKNOWN
    """The charging cable; UNKNOWN in a car without a socket."""
    tyres: Tyres = Tyres.ALL_SEASON
    """Which are on."""
    tread_dmm: int = 60
    """The shallowest tread, tenths of a millimetre; new tyres have 80."""
    oil_pct: int = 80
    """Life of the oil that is left."""
    brake_pct: int = 70
    """Thickness of the thinnest brake pad that is left."""
    service_km: int = 12_000
    """To the next periodic service."""
    service_days: int = 300
    """To the next periodic service."""
    trouble_codes: tuple[int, ...] = ()
    """Diagnostic trouble codes (SAE J2012)."""

    _rolled_mm: int = 0

    def roll(self, distance_mm: int) -> None:
        """Wear out by a drive: whole kilometres count.

        Oil lasts 15,000 km, pads 40,000 km, tyres lose 1 mm in 6,000 km; assumed.
        """
        before_km = self._rolled_mm // MM_PER_KM
        self._rolled_mm += distance_mm
        for km in range(before_km + 1, self._rolled_mm // MM_PER_KM + 1):
            self.service_km = max(0, self.service_km - 1)
            self.oil_pct = max(0, self.oil_pct - (km % 150 == 0))
            self.brake_pct = max(0, self.brake_pct - (km % 400 == 0))
            self.tread_dmm = max(0, self.tread_dmm - (km % 600 == 0))

    def sensed(self) -> Sensors:
        """Return what the sensors say now."""
        return Sensors(
            plug=self.plug,
            tyres=self.tyres,
            tread_dmm=self.tread_dmm,
            oil_pct=self.oil_pct,
            brake_pct=self.brake_pct,
            service_km=self.service_km,
            service_days=self.service_days,
            trouble_codes=self.trouble_codes,
        )
