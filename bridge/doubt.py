"""A HELLO that went back, and the proof that the car itself said it.

An old HELLO may be a broker's replay, or the car may really have gone back: a disk
image was put back, a count of starts was lost. The two look the same. So the bridge
asks: a CHALLENGE with a fresh nonce, sent in the session that it knows and in the one
that the HELLO names. Only the car can answer, with a HELLO that carries the nonce
(FF-SYN-10). Until then nothing but that question is signed for it.
"""

from typing import Self

import msgspec

from protocol.frame import Header


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """What is doubted of one car; a value, stored with it."""

    nonce: bytes
    """16 bytes: what the answer must carry."""
    session_id: bytes
    """16 bytes: the session that the doubtful HELLO names."""
    mono_ms: int
    """The car's boot clock when it signed that HELLO."""
    received_ms: int
    """UTC ms when it was received."""
    reason: str
    """In a few words."""
    is_barred: bool = False
    """Whether the car answered and still nothing may be signed: its ledger had been
    replaced (FF-LED-23), so somebody has to look at it."""

    @classmethod
    def of(cls, header: Header, reason: str, *, nonce: bytes, now: int) -> Self:
        """Return the doubt that a HELLO causes."""
        return cls(nonce, header.session_id, header.mono_ms, now, reason)

    def car_now_ms(self, *, now: int) -> int:
        """Return what the car's clock shows at least, if it said that HELLO."""
        return self.mono_ms + max(now - self.received_ms, 0)
