"""What of an emulated car wears out, and what its slow sensors say of it.

Figures of a car that came from its service a while ago; a scenario changes them, and
the board reports what they are (docs/board-protocol.md, SENSORS).
"""

from dataclasses import dataclass

from protocol.board.message import Plug, Sensors, Tyres


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
