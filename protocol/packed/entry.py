"""`protocol.entry` again, by hand: what every ledger entry begins with."""

from typing import Final

from protocol.codes import ClockQuality, Code
from protocol.entry import LEDGER_ID_SIZE, LINK_SIZE, EntryLink
from protocol.errors import DecodeError
from protocol.packed.record import HASH, Packed, Zeros, exactly, member

LINK: Final = Packed(
    EntryLink, exactly(LEDGER_ID_SIZE), HASH, member(ClockQuality), Zeros(3)
)
"""44 bytes."""


def split_entry(payload: bytes) -> tuple[EntryLink, bytes]:
    """Split a payload into link and body as `protocol.entry.split_entry` does.

    Raises:
        DecodeError: the same bytes, the same code.
    """
    if len(payload) < LINK_SIZE:
        raise DecodeError(
            Code.BAD_LEN,
            f"an entry of {len(payload)} bytes, its link alone has {LINK_SIZE}",
        )
    return LINK.read(payload), payload[LINK_SIZE:]
