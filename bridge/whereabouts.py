"""What a batch does with places: `bridge.places` applied to a workspace."""

from bridge import cloud_event
from bridge.ingest import VerifiedEntry, VerifiedPlace
from bridge.ledger import Ledger
from bridge.places import (
    Judged,
    PlaceRecord,
    PlaceState,
    entry_came,
    place_came,
    receiptable,
)
from bridge.workspace import EntryKey, LedgerKey, Workspace, hear, raise_alarm
from protocol.place import NO_PLACE
from protocol.receipt import GAPS_LIMIT, Gap


def absorb_place(space: Workspace, record: VerifiedPlace, now: int) -> str:
    """Fold a place into the batch; return what became of it."""
    hear(space, record)
    vehicle_id, told = record.frame.header.vehicle_id, record.told
    key = (vehicle_id, told.ledger_id, told.seq)
    ledger = (vehicle_id, told.ledger_id)
    before = space.places.get(key)
    upto = space.ledgers.get(ledger, Ledger()).upto
    judged = place_came(before, told, vehicle_id, upto=upto, now=now)
    _settle(space, key, judged, now)
    if before is not None and before.state is PlaceState.AWAITED and judged.record:
        # Its entry's receipt waited for it alone.
        space.receipts.setdefault(ledger, [])
    return judged.note


def commitment_of(record: VerifiedEntry) -> bytes:
    """Return what an entry commits to about its place; `NO_PLACE` for nothing."""
    commitment: bytes = getattr(record.body, "place_commitment", NO_PLACE)
    return commitment


def note_arrival(
    space: Workspace, key: EntryKey, record: VerifiedEntry, now: int
) -> None:
    """Note that an entry came, which is stored by now, if it commits to a place."""
    commitment = commitment_of(record)
    if commitment == NO_PLACE:
        return
    judged = entry_came(
        space.places.get(key),
        key[0],
        commitment=commitment,
        prev_hash=record.link.prev_hash,
        rental_id=getattr(record.body, "rental_id", b""),
    )
    _settle(space, key, judged, now)


def _settle(space: Workspace, key: EntryKey, judged: Judged, now: int) -> None:
    if judged.record is not None:
        space.places[key] = judged.record
        space.changed_places[key] = judged.record
    if judged.is_contradicted:
        # Without the frame: what is not kept must not be kept as evidence either.
        detail = f"a place that came for entry {key[2]} does not fit its commitment"
        kind = cloud_event.CONTRADICTED_TYPE
        raise_alarm(space, kind, key, detail, now=now)


def receipt_of(space: Workspace, key: LedgerKey) -> tuple[int, bytes, tuple[Gap, ...]]:
    """Return how far a ledger is receipted, the hash there, and what is asked again.

    An entry whose place is awaited is asked for again, since its place comes with it.
    """
    ledger = space.ledgers.get(key, Ledger())
    if not space.places:
        return ledger.upto, ledger.head_hash, ()
    awaited = _awaited(space, key)
    upto, head_hash = receiptable(ledger.upto, ledger.head_hash, awaited)
    again = sorted(seq for seq in awaited if seq <= ledger.upto)
    return upto, head_hash, tuple(Gap(seq, seq) for seq in again[:GAPS_LIMIT])


def _awaited(space: Workspace, key: LedgerKey) -> dict[int, PlaceRecord]:
    return {
        seq: record
        for (vehicle_id, ledger_id, seq), record in space.places.items()
        if (vehicle_id, ledger_id) == key and record.state is PlaceState.AWAITED
    }
