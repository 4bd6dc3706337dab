"""A HELLO that went back, and the proof that the car itself said it.

An old HELLO may be a broker's replay, or the car may really have gone back: a disk
image was put back, a count of starts was lost. The two look the same. So the bridge
asks: a CHALLENGE with a fresh nonce, sent in the session that it knows and in the one
that the HELLO names. Only the car can answer, with a HELLO that carries the nonce
(FF-SYN-10). Until then nothing but that question is signed for it.

An answer is younger than its question and no younger: entries that the car wrote after
it may overtake it on their way. What was stored when the question was made, though, the
car had written before it answered, so an answer whose ledger ends before that proves
that the car went back (FF-HEL-11).

A store that was put back from a backup knows no session that a car began since, and a
car hears a question in its running one alone (FF-SYN-01). That one its other frames
name, so it is asked in that too. Such a frame may be a replay: then a question is
wasted, and nothing else follows from it.
"""

from typing import Final, Self

import msgspec

from bridge.clock import ClockEstimate
from bridge.instant import Instant
from protocol.frame import Header
from protocol.identity import boot_counter

LATE_MS: Final = 10_000
"""How long a frame may take on its way and still name the running session: entries that
are sent again are mostly older, and name a session that is over."""


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """What is doubted of one car; a value, stored with it."""

    nonce: bytes
    """16 bytes: what the answer must carry."""
    session_id: bytes
    """16 bytes: the session that the doubtful HELLO names."""
    reason: str
    """In a few words."""
    clock: ClockEstimate = ClockEstimate()
    """What the car's boot clock shows, if it said that HELLO."""
    is_barred: bool = False
    """Whether the car answered and still nothing may be signed: its ledger had been
    replaced (FF-LED-23), so somebody has to look at it."""
    ledger_id: bytes = b""
    """8 bytes: which ledger was looked at when the nonce was made; empty for none."""
    upto: int = 0
    """How far that ledger was stored then, without a gap."""
    running: bytes = b""
    """16 bytes: the session that its other frames name, if it is news, or empty."""
    running_clock: ClockEstimate = ClockEstimate()
    """What the car's boot clock shows, if that session is the running one."""

    @classmethod
    def of(
        cls,
        header: Header,
        reason: str,
        *,
        nonce: bytes,
        at: Instant,
        ledger_id: bytes,
        upto: int,
    ) -> Self:
        """Return the doubt that a HELLO causes which was received at this instant."""
        boot = boot_counter(header.session_id)
        return cls(
            nonce,
            header.session_id,
            reason,
            ClockEstimate().observed(boot, header.mono_ms, at=at),
            ledger_id=ledger_id,
            upto=upto,
        )

    def heard(self, session_id: bytes, mono_ms: int, *, at: Instant) -> Self:
        """Return the doubt after a verified frame of another session than is known.

        Args:
            session_id: of the frame.
            mono_ms: what the car's clock showed when it signed.
            at: when the frame was received.
        """
        boot = boot_counter(session_id)
        clock = self.running_clock if self.running else self.clock
        if session_id != self.running:
            if boot < boot_counter(self.running or self.session_id):
                return self
            known_ms = clock.car_now_ms(at=at) if boot == clock.boot_counter else None
            if known_ms is not None and mono_ms < known_ms - LATE_MS:
                return self
        return msgspec.structs.replace(
            self,
            running=session_id,
            running_clock=clock.observed(boot, mono_ms, at=at),
        )

    def proves_loss(self, ledger_id: bytes, head_seq: int) -> bool:
        """Return whether a car that answers so has lost entries (FF-HEL-11).

        Args:
            ledger_id: from the answer.
            head_seq: from the answer.
        """
        return ledger_id == self.ledger_id and head_seq < self.upto
