"""Receipts: the fleet's signed word that entries are safe in its store.

Only a receipt frees an entry in the car; an acknowledgement of the broker proves
nothing (reliability.md L1). Receipts are cumulative and idempotent: losing or replaying
one is harmless, and one that does not match the car's own hash frees nothing (I-22).
"""

from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.codes import Code
from protocol.entry import LEDGER_ID_SIZE
from protocol.layout import HASH, U16, U64, Layout, code_of, reserved, sequence_of

GAPS_LIMIT: Final = 16
"""Ranges that one receipt can ask for again."""

REJECTS_LIMIT: Final = 32
"""Entries that one receipt can refuse for good."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of entries that the fleet has not got."""

    first: int
    """Sequence of the first missing entry."""
    last: int
    """Sequence of the last missing entry."""


@dataclass(frozen=True, slots=True)
class Reject:
    """An entry that the fleet will never take; the car keeps it aside."""

    seq: int
    """Its sequence."""
    code: Code
    """Why."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The payload of a RECEIPT frame."""

    ledger_id: bytes
    """8 bytes: which ledger."""
    upto: int
    """Everything up to this sequence is committed; 0 for nothing yet."""
    head_hash: bytes
    """32 bytes: `entry_hash` of entry `upto`, zeros for 0."""
    credit: int
    """How many more entries may be under way at once."""
    gaps: tuple[Gap, ...]
    """What to send again."""
    rejects: tuple[Reject, ...]
    """What will never be taken."""


GAP: Final = Layout(
    Gap, "first" / U64, "last" / U64, cs.Check(cs.this.first <= cs.this.last)
)
REJECT: Final = Layout(Reject, "seq" / U64, "code" / code_of(U16, Code), reserved(2))
RECEIPT: Final = Layout(
    Receipt,
    "ledger_id" / cs.Bytes(LEDGER_ID_SIZE),
    "upto" / U64,
    "head_hash" / HASH,
    "credit" / U16,
    "gaps" / sequence_of(GAP.nested(), GAPS_LIMIT),
    "rejects" / sequence_of(REJECT.nested(), REJECTS_LIMIT),
)
