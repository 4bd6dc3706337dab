"""Checking a stored ledger against itself before anything is built on it.

A flash cell that flips and a hand that edits look the same here: some hash does not
continue the one before. A hand that makes the hashes anew is found by the signatures.
"""

from collections.abc import Sequence
from typing import Final

from gateway.core.ledger import LedgerHead, SealedEntry
from gateway.storage.errors import StoreDamagedError
from gateway.storage.signer import Signer
from protocol.entry import entry_hash, split_entry
from protocol.errors import DecodeError
from protocol.frame import parse_frame

SIGNATURES_CHECKED: Final = 1_000
"""Signatures checked at a start, the newest ones: a tenth of a second. Older entries
are held by the hashes of these."""


def require_chain(
    entries: Sequence[SealedEntry],
    head: LedgerHead,
    *,
    receipted: int,
    receipted_hash: bytes,
) -> None:
    """Return if the entries lead from the last receipted one to the head without a gap.

    Args:
        entries: every entry without a receipt, rejected ones included, in order.
        head: the newest entry, as stored beside the state.
        receipted: the last sequence with a receipt, 0 for none.
        receipted_hash: its hash, `GENESIS` for none.

    Raises:
        StoreDamagedError: names the first entry that does not fit.
    """
    seq, previous = receipted, receipted_hash
    for entry in entries:
        if entry.seq != seq + 1:
            raise StoreDamagedError(_broken(seq + 1, f"is missing before {entry.seq}"))
        if entry_hash(entry.frame) != entry.hash:
            raise StoreDamagedError(_broken(entry.seq, "is not what was written"))
        try:
            frame = parse_frame(entry.frame)
            link, _ = split_entry(frame.payload)
        except DecodeError as error:
            raise StoreDamagedError(_broken(entry.seq, error.detail)) from None
        if (link.ledger_id, link.prev_hash) != (head.ledger_id, previous):
            raise StoreDamagedError(_broken(entry.seq, "does not continue the chain"))
        if (frame.header.seq, frame.header.frame_class) != (
            entry.seq,
            entry.frame_class,
        ):
            raise StoreDamagedError(_broken(entry.seq, "stands at another's place"))
        seq, previous = entry.seq, entry.hash
    if (seq, previous) != (head.seq, head.hash):
        raise StoreDamagedError(
            f"the ledger ends at entry {seq}, but its head is {head.seq} or has "
            "another hash"
        )


def require_signed(entries: Sequence[SealedEntry], signer: Signer) -> None:
    """Return if this car has signed the newest entries.

    An entry by a key that is not known was signed before the key was changed; its hash
    speaks for it.

    Args:
        entries: a sound chain.
        signer: who signs.

    Raises:
        StoreDamagedError: names the first entry that the car did not sign.
    """
    for entry in entries[-SIGNATURES_CHECKED:]:
        frame = parse_frame(entry.frame)
        if signer.knows(frame.header.key_id) and not signer.has_signed(frame):
            raise StoreDamagedError(_broken(entry.seq, "is not signed by this car"))


def _broken(seq: int, what: str) -> str:
    return f"ledger entry {seq} {what}; the fleet must close an open rental by hand"
