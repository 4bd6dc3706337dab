"""How far a vehicle's ledger is known: receipts, gaps, forks and breaks.

Theory of operation. A ledger is a chain of entries 1, 2, 3 .. in which each names the
hash of the one before. The bridge takes entries in any order, but what it tells others
advances only along the unbroken chain: `upto` is the last entry of which every entry
before is stored too. An entry beyond a gap is *held*: stored, not yet told.

Rule 1: nothing is refused silently; every placement that is not `NEXT` or `DUPLICATE`
is reported (I-27).
Rule 2: same sequence, same hash is a duplicate; same sequence, other hash is a fork,
and both are kept.
Rule 3: an entry that does not name the hash of the entry before it breaks the chain;
it is kept, and the ledger stops there until people have looked at it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from typing import Final

from protocol.entry import FIRST_SEQ, GENESIS
from protocol.receipt import GAPS_LIMIT, Gap

HELD_LIMIT: Final = 256
"""Entries held beyond a gap, four times what an honest car may have under way. More are
not taken until it closes: the car keeps what has no receipt, and a hostile one cannot
make every batch read thousands of islands."""


@unique
class Placement(StrEnum):
    """Where an entry went."""

    NEXT = "next"
    """It continued the chain, perhaps with held ones behind it."""
    HELD = "held beyond a gap"
    """Stored; a gap before it is open."""
    DUPLICATE = "duplicate"
    """Known, byte for byte."""
    FORKED = "fork"
    """Another entry with this sequence is known."""
    BROKEN = "chain broken"
    """It does not name the entry before it; stored and held."""
    PASSED = "of a gap that was accepted"
    """Not stored: people accepted that it is missing, and the ledger went on."""
    CROWDED = "too many held"
    """Not stored: `HELD_LIMIT` entries wait beyond a gap already."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the ledger needs to know of an entry."""

    seq: int
    """From 1."""
    entry_hash: bytes
    """32 bytes."""
    prev_hash: bytes
    """32 bytes."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """One ledger as far as it is known."""

    upto: int = 0
    """The last entry with every one before it; 0 for none."""
    head_hash: bytes = GENESIS
    """Hash of entry `upto`."""
    held: Mapping[int, Place] = field(default_factory=dict)
    """Entries beyond a gap or a break, by sequence."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of one entry."""

    placement: Placement
    """Where it went."""
    ledger: Ledger
    """The ledger afterwards."""
    released: tuple[int, ...] = ()
    """Sequences that may be told now, in order; the entry's own included."""
    broken_at: int | None = None
    """A held entry that turned out not to continue the chain."""


def place(ledger: Ledger, entry: Place, *, known_hash: bytes | None) -> Placed:
    """Place an entry.

    Args:
        ledger: as it was before.
        entry: the verified entry.
        known_hash: hash of the stored entry with this ledger and sequence, if any.
    """
    if known_hash is not None:
        same = known_hash == entry.entry_hash
        return Placed(Placement.DUPLICATE if same else Placement.FORKED, ledger)
    if entry.seq != ledger.upto + 1:
        return _place_apart(ledger, entry)
    if entry.prev_hash != ledger.head_hash:
        return Placed(Placement.BROKEN, _hold(ledger, entry), broken_at=entry.seq)
    held = dict(ledger.held)
    head, released = entry, [entry.seq]
    while following := held.get(head.seq + 1):
        if following.prev_hash != head.entry_hash:
            after = Ledger(head.seq, head.entry_hash, held)
            return Placed(Placement.NEXT, after, tuple(released), following.seq)
        head = held.pop(following.seq)
        released.append(head.seq)
    after = Ledger(head.seq, head.entry_hash, held)
    return Placed(Placement.NEXT, after, tuple(released))


def _place_apart(ledger: Ledger, entry: Place) -> Placed:
    """Place an unknown entry that does not stand at the end of the chain."""
    if entry.seq <= ledger.upto:
        return Placed(Placement.PASSED, ledger)
    if len(ledger.held) >= HELD_LIMIT:
        return Placed(Placement.CROWDED, ledger)
    return Placed(Placement.HELD, _hold(ledger, entry))


def _hold(ledger: Ledger, entry: Place) -> Ledger:
    return replace(ledger, held={**ledger.held, entry.seq: entry})


def pass_over(ledger: Ledger, gap: Gap) -> Placed | None:
    """Go on behind entries that will never come; None if that is not the oldest gap.

    The entry behind the gap names the hash of the last missing one, so the chain that
    the car signed goes on, and a receipt names the hash that the car knows.
    """
    if gaps_of(ledger, limit=1) != (gap,):
        return None
    held = dict(ledger.held)
    following = held.pop(gap.last + 1)
    before = Ledger(gap.last, following.prev_hash, held)
    return place(before, following, known_hash=None)


def gaps_of(ledger: Ledger, *, limit: int = GAPS_LIMIT) -> tuple[Gap, ...]:
    """Return what is missing before the held entries, the oldest gaps first.

    At most `limit`; as many as a receipt can name without it.
    """
    gaps: list[Gap] = []
    expected = ledger.upto + 1
    for seq in sorted(ledger.held):
        if seq > expected:
            gaps.append(Gap(expected, seq - 1))
        if len(gaps) == limit:
            break
        expected = seq + 1
    return tuple(gaps)


def falls_behind(ledger: Ledger, head_seq: int) -> str | None:
    """Compare how long a car says that its ledger is with what is stored.

    By itself it proves nothing: entries may overtake the HELLO of their session on
    their way through a broker. In a HELLO that answers a challenge it does.

    Args:
        ledger: as stored.
        head_seq: from the HELLO.

    Returns:
        What is missing, in a few words, or None.
    """
    if head_seq < ledger.upto:
        return (
            f"the car's ledger ends at {head_seq}, but entry {ledger.upto} is stored: "
            "it went back"
        )
    return None


def contradicts(
    head_seq: int, head_hash: bytes, *, known_hash: bytes | None
) -> str | None:
    """Compare a car's own word about an entry with the one that is stored.

    Args:
        head_seq: from the HELLO.
        head_hash: from the HELLO.
        known_hash: hash of the stored entry `head_seq`, if any.

    Returns:
        What contradicts, in a few words, or None.
    """
    if head_seq >= FIRST_SEQ and known_hash is not None and known_hash != head_hash:
        return f"the car's entry {head_seq} is not the one that is stored"
    return None
