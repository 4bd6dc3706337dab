"""One piece of work in a trace, and the ids that car and bridge give it alike (pure).

Nothing on the wire carries a trace (docs/adr/0030-traces.md): a command's trace is its
message id, a ledger entry's the id of its event, and a result belongs to its command.
The id of a span follows from its trace and its name, so whoever makes a span knows its
parent, wherever that one is made, and one that is told twice is the same span.

No attribute tells of a customer, a card or a place (K25); a rental's id is in none.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

Attribute = str | int | bool

COMMAND: Final = "command"
"""The whole of a command: the root of its trace."""
CAR: Final = "car"
"""From the broker until the car signed how a command ended; below `COMMAND`."""
ENTRY: Final = "entry"
"""A ledger entry, from the car's signature to the commit: the root of its trace."""
UPLINK: Final = "uplink"
"""From the car's signature until the bridge has the frame; below the root. Of a result
its key is the entry's number."""


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work."""

    trace_id: bytes
    """16 bytes."""
    name: str
    """What."""
    start_ms: int
    """UTC ms."""
    end_ms: int
    """UTC ms, not before the start."""
    parent: str | None = None
    """Name of the span around it, in the same trace."""
    key: str = ""
    """Tells it from others of its name in the trace."""
    is_error: bool = False
    """Whether it failed."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    """What is known of it."""
    parent_key: str = ""
    """Tells its parent from others of that name."""

    @property
    def span_id(self) -> bytes:
        """Return its id, 8 bytes."""
        return span_id(self.trace_id, self.name, self.key)

    @property
    def parent_id(self) -> bytes | None:
        """Return its parent's id, or None for a root."""
        if self.parent is None:
            return None
        return span_id(self.trace_id, self.parent, self.parent_key)


def span_id(trace_id: bytes, name: str, key: str = "") -> bytes:
    """Return the id of a span, 8 bytes, never all zeros."""
    what = b"ff-span-v1\0" + trace_id + name.encode() + b"\0" + key.encode()
    return hashlib.sha256(what).digest()[:7] + b"\x01"
