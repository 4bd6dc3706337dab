"""`protocol.receipt` again, by hand: a fixed part and two lists."""

import struct
from typing import Final

from protocol.codes import Code
from protocol.packed.record import (
    U64,
    Packed,
    PackedList,
    Zeros,
    built,
    member,
    parsed,
)
from protocol.receipt import GAPS_LIMIT, REJECTS_LIMIT, Gap, Receipt, Reject

_HEAD: Final = struct.Struct(">8sQ32sH")
_GAPS: Final = PackedList(Packed(Gap, U64, U64), GAPS_LIMIT)
_REJECTS: Final = PackedList(
    Packed(Reject, U64, member(Code, "H"), Zeros(2)), REJECTS_LIMIT
)

_SIZES: Final = (8, 32)
"""Bytes of ledger id and head hash."""


def parse_receipt(data: bytes) -> Receipt:
    """Decode the payload of a RECEIPT frame.

    Raises:
        DecodeError: as the layout `protocol.receipt.RECEIPT` raises it.
    """
    return parsed("Receipt", _read, data)


def build_receipt(receipt: Receipt) -> bytes:
    """Encode the payload of a RECEIPT frame.

    Raises:
        EncodeError: a value does not fit its field, a list is too long, or a gap ends
            before it begins.
    """
    return built("Receipt", _write, receipt)


def _read(data: bytes) -> tuple[Receipt, int]:
    ledger_id, upto, head_hash, credit = _HEAD.unpack_from(data)
    gaps, at = _GAPS.read(data, _HEAD.size)
    _require_forward(gaps)
    rejects, at = _REJECTS.read(data, at)
    return Receipt(ledger_id, upto, head_hash, credit, gaps, rejects), at


def _write(receipt: Receipt) -> bytes:
    if (len(receipt.ledger_id), len(receipt.head_hash)) != _SIZES:
        raise ValueError("ledger id or head hash has another length")
    _require_forward(receipt.gaps)
    return b"".join(
        (
            _HEAD.pack(
                receipt.ledger_id, receipt.upto, receipt.head_hash, receipt.credit
            ),
            _GAPS.write(receipt.gaps),
            _REJECTS.write(receipt.rejects),
        )
    )


def _require_forward(gaps: tuple[Gap, ...]) -> None:
    for gap in gaps:
        if gap.first > gap.last:
            raise ValueError(f"a gap from {gap.first} back to {gap.last}")
