"""DEATH: that a connection of a car is over.

LOST is signed before the connection begins and left with the broker as its will, so it
may come late, twice or from a broker that lies; STOPPED is said by a car that goes.
`header.seq` and `header.session_id` are those of the connection's hello: a receiver
ignores a death below the newest hello it has (protocol-design.md 1.4).
"""

from dataclasses import dataclass
from typing import Final

from protocol.codes import DeathReason
from protocol.layout import U8, Layout, code_of, reserved


@dataclass(frozen=True, slots=True)
class Death:
    """The payload of a DEATH frame."""

    reason: DeathReason
    """How the connection ended."""


DEATH: Final = Layout(Death, "reason" / code_of(U8, DeathReason), reserved(7))
"""8 bytes."""
