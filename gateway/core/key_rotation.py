"""A new signing key for the car, proved by the old one and by itself (FF-ENR).

The entry that names the new key is the last that the old one signs, so whoever follows
the ledger knows at each place which key counts. The proof shows that the car holds the
new key, and not only its public half; it is bound to the entry's place.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.core.ledger import LedgerHead, SealedEntry, Signatory, seal_entry
from gateway.core.moment import Moment
from gateway.core.reading import Position
from protocol.codes import EventType, FrameClass
from protocol.event import EventBody
from protocol.frame import parse_frame
from protocol.keys import SigningKey
from protocol.result import Result
from protocol.rotation import rotation_message
from protocol.vehicle_event import KeyRotated

Fix = tuple[Position, bytes]
"""A position and the salt of its commitment."""

UNPROVED: Final = bytes(64)
"""The proof before the entry's place is known."""


def is_rotation(entry: SealedEntry) -> bool:
    """Return whether an entry names a new signing key."""
    return (
        entry.frame_class is FrameClass.EVENT
        and parse_frame(entry.frame).header.type == EventType.KEY_ROTATED
    )


def seal_entries(
    bodies: tuple[EventBody | Result, ...],
    head: LedgerHead,
    signatory: Signatory,
    *,
    successor: SigningKey | None,
    fix_for: Callable[[EventBody | Result], Fix | None],
    now: Moment,
) -> tuple[tuple[SealedEntry, ...], LedgerHead]:
    """Seal what belongs to one decision, in order, and return it with the new head.

    Args:
        bodies: events and results.
        head: the newest entry before them.
        signatory: in whose name.
        successor: the key that a rotation among them names; it signs what follows.
        fix_for: returns position and salt for an entry that is committed to its place.
        now: when.
    """
    sealed = []
    for body in bodies:
        if isinstance(body, KeyRotated) and successor is not None:
            asked = rotation_message(
                fleet_id=signatory.fleet_id,
                vehicle_id=signatory.vehicle_id,
                old_key_id=signatory.key.key_id,
                ledger_id=head.ledger_id,
                seq=head.seq + 1,
            )
            proved = replace(body, proof=successor.sign(asked))
            entry, head = seal_entry(proved, head, signatory, now=now)
            signatory = replace(signatory, key=successor)
        else:
            fix = fix_for(body)
            entry, head = seal_entry(body, head, signatory, now=now, fix=fix)
        sealed.append(entry)
    return tuple(sealed), head
