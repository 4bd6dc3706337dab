"""What a mobile network does to a connection besides cutting it: late, slow, broken.

A `CuttableLink` has one weather at a time, for both directions. Bytes are never lost
while a connection stands, since TCP sends them again: what a network loses arrives
late, which is what `late_one_in` and `late_s` are.
"""

import random
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Weather:
    """How bytes fare. The default is fair weather: they pass at once."""

    latency_s: float = 0.0
    """Each way, for each piece that is passed on; 0 or more."""
    late_one_in: int = 0
    """One piece in so many was lost and is sent again; 0 for none."""
    late_s: float = 1.0
    """How much later a piece is that was lost: the least time-out of TCP, RFC 6298."""
    bytes_per_s: int = 0
    """How fast pieces pass; 0 for no bound. GSM data had 1,200."""
    spoiled_one_in: int = 0
    """One piece in so many has one bit flipped on the way; 0 for none."""
    breaks_after: int = 0
    """Bytes of one direction after which the connection is reset, wherever in a frame
    that is; 0 for never."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} may not be {getattr(self, name)}: 0 or more")

    def delay_s(self, size: int, chance: random.Random) -> float:
        """Return how long a piece of `size` bytes is on the way."""
        late = bool(self.late_one_in) and chance.randrange(self.late_one_in) == 0
        carried = size / self.bytes_per_s if self.bytes_per_s else 0.0
        return self.latency_s + carried + (self.late_s if late else 0.0)

    def spoil(self, data: bytes, chance: random.Random) -> bytes:
        """Return what arrives of a piece: the same, or one bit is another."""
        if not self.spoiled_one_in or chance.randrange(self.spoiled_one_in):
            return data
        place = chance.randrange(8 * len(data))
        spoiled = bytearray(data)
        spoiled[place // 8] ^= 1 << place % 8
        return bytes(spoiled)


FAIR: Final = Weather()
"""Everything passes at once."""
GSM: Final = Weather(latency_s=0.5, late_one_in=5, bytes_per_s=1_200)
"""9,600 bit/s, a second there and back, a fifth is lost: fault row 15."""
