"""Whether a car can be reached: its hello, its death, and its silence.

Rule 1: a HELLO begins a connection, a DEATH of that same connection ends it; a will
that a broker kept or delayed says nothing about a newer one (protocol-design.md 1.4).
Rule 2: a car that has said nothing for `SILENCE_MS` is silent even without a DEATH: a
broker that froze sends none.
Rule 3: what consumers were told last is kept beside it, so that each change is told
once and none is lost with a crash.
"""

from enum import StrEnum, unique
from typing import Final, Self

import msgspec

SILENCE_MS: Final = 180_000
"""Three of the longest gaps between telemetry frames, which are 60 s apart at rest
(protocol-design.md 6)."""


@unique
class LinkState(StrEnum):
    """How a car's link is, as its own signed words and its silence say."""

    UNKNOWN = "unknown"
    """It never said HELLO."""
    ONLINE = "online"
    """It said HELLO and was heard within `SILENCE_MS`."""
    LOST = "lost"
    """Its will came: the link broke."""
    STOPPED = "stopped"
    """It said that it goes."""
    SILENT = "silent"
    """No DEATH, and nothing heard for `SILENCE_MS`."""


class Presence(msgspec.Struct, frozen=True, gc=False):
    """What is known of a car's link; a value."""

    hello_ms: int = 0
    """UTC ms when the newest accepted HELLO was received; 0 for none."""
    heard_ms: int = 0
    """UTC ms when anything verified was received; 0 for nothing."""
    death_ms: int = 0
    """UTC ms when the newest accepted DEATH was received; 0 for none."""
    ended: LinkState | None = None
    """LOST or STOPPED when a DEATH ended the newest connection."""
    is_told_online: bool = False
    """What consumers were told last (rule 3)."""

    def greeted(self, *, now: int) -> Self:
        """Return it after an accepted HELLO."""
        return msgspec.structs.replace(self, hello_ms=now, heard_ms=now, ended=None)

    def heard(self, *, now: int) -> Self:
        """Return it after any verified frame."""
        return msgspec.structs.replace(self, heard_ms=now)

    def died(self, ended: LinkState, *, now: int) -> Self:
        """Return it after a DEATH of the newest connection."""
        return msgspec.structs.replace(self, death_ms=now, ended=ended)

    def told(self, *, is_online: bool) -> Self:
        """Return it after consumers were told."""
        return msgspec.structs.replace(self, is_told_online=is_online)

    def state(self, *, now: int) -> LinkState:
        """Return how the link is."""
        if not self.hello_ms:
            return LinkState.UNKNOWN
        if self.ended is not None:
            return self.ended
        if now - self.heard_ms > SILENCE_MS:
            return LinkState.SILENT
        return LinkState.ONLINE

    def is_online(self, *, now: int) -> bool:
        """Return whether `state` is ONLINE, without saying what else it is."""
        is_heard = now - self.heard_ms <= SILENCE_MS
        return bool(self.hello_ms) and self.ended is None and is_heard

    def since_ms(self, *, now: int) -> int:
        """Return since when it is so, UTC ms; 0 if it never was otherwise."""
        match self.state(now=now):
            case LinkState.ONLINE:
                return self.hello_ms
            case LinkState.SILENT:
                return self.heard_ms + SILENCE_MS
            case LinkState.LOST | LinkState.STOPPED:
                return self.death_ms
            case LinkState.UNKNOWN:
                return 0
