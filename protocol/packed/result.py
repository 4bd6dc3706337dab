"""`protocol.result` and `protocol.snapshot` again, by hand."""

from typing import Final

from protocol.codes import (
    Code,
    Condition,
    EnergyKind,
    Executed,
    Light,
    RentalMode,
    Retry,
)
from protocol.packed.record import (
    BITS,
    HASH,
    ID,
    MEASURED_U16,
    MEASURED_U32,
    PERCENT,
    U32,
    Packed,
    Zeros,
    member,
    nested,
)
from protocol.result import Result
from protocol.snapshot import Snapshot

SNAPSHOT: Final = Packed(
    Snapshot,
    member(RentalMode),
    member(Condition),
    member(Light),
    member(EnergyKind),
    U32,
    ID,
    BITS,
    PERCENT,
    PERCENT,
    MEASURED_U16,
    MEASURED_U16,
    Zeros(2),
    MEASURED_U32,
)
"""38 bytes."""

RESULT: Final = Packed(
    Result,
    ID,
    HASH,
    member(Code, "H"),
    member(Executed),
    member(Retry),
    nested(SNAPSHOT),
)
"""90 bytes."""
