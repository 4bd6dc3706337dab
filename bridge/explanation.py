"""The explanation of a command: its way hop by hop, and what proves each hop.

Written for somebody who asks "why did this car open?" and believes nobody. What car and
fleet signed goes with it as bytes, with the certificates and bundles by which a
stranger checks them (`protocol.evidence`); what only the bridge knows (who asked, what
was looked at, when it was published) is told as recorded, never as proved. Rows of the
audit trail carry their hashes, so that they can be held against the trail.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from bridge.approvals import Approval
from bridge.audit import AuditRow
from bridge.commands import CommandRecord, CommandState
from bridge.compound import meaning_of_absent
from bridge.instants import rfc3339
from bridge.orders import KINDS
from bridge.rows.trails import Trail
from protocol.codes import Opcode
from protocol.errors import ProtocolError
from protocol.evidence import Exhibit
from protocol.frame import parse_frame
from protocol.rendering import render_frame
from protocol.trust import BUNDLE, SIGNED_BUNDLE, TrustedKey

FORMAT: Final = "freefloat-explanation-1"
"""Of the document; another revision has another number."""

SIGNED: Final = "signed"
"""A hop that a frame of the proof shows."""

RECORDED: Final = "recorded"
"""A hop that the bridge wrote down."""

CHAINED: Final = "chained"
"""A hop that a row of the audit trail shows."""

_RECORDED_WORDS: Final = {
    CommandState.PUBLISHED: "the broker took it; that is not yet arrived",
    CommandState.DEFERRED: "waits unsigned for the vehicle",
    CommandState.TIMED_OUT: "no answer came in time: unknown, not failed",
    CommandState.UNDER_WAY: "one part after the other; each is explained by itself",
}
"""States that the bridge alone knows of."""

Hop = dict[str, object]
Document = dict[str, object]


def explanation_of(trail: Trail, exhibit: Exhibit) -> Document:
    """Return the document of a command, its parts included."""
    record = trail.record
    hops = list(_hops(trail, exhibit))
    if trail.approval is None:
        for answer in _answered(trail.answered):
            _put_in(answer, hops)
    rows = (trail.asked, trail.decided, trail.answered)
    for before, hop in zip([None, *hops], hops, strict=False):
        hop["after_ms"] = _between(before, hop)
    known_parts = {
        known.record.command_id: known.record for known in trail.parts if known
    }
    return {
        "format": FORMAT,
        "command_id": record.command_id.hex(),
        "vehicle_id": str(record.vehicle_id),
        "fleet_id": exhibit.fleet_id.hex(),
        "kind": record.kind,
        "state": record.state.value,
        "is_final": record.state.is_terminal,
        "took_ms": record.trail[-1][1] - record.requested_ms if record.trail else 0,
        "hops": hops,
        "snapshot": record.snapshot,
        "audit": [document_of_row(row) for row in rows if row],
        "proof": {
            "issuing_certificate": _text(exhibit.issuing_certificate),
            "signing_certificate": _text(exhibit.signing_certificate),
            "bundles": [_text(data) for data in exhibit.bundles],
            "rotations": [_text(data) for data in exhibit.rotations],
            "command": _text(record.frame) or None,
            "result": _text(record.result_frame) or None,
            "hello": _text(record.hello_frame) or None,
            "entries": [_text(data) for data in trail.entries],
            "receipt": _text(trail.receipt.data) if trail.receipt else None,
        },
        "parts": [
            {
                "kind": KINDS[Opcode(part.opcode)],
                "command_id": part.command_id.hex(),
                "meaning": meaning_of_absent(record, known_parts),
            }
            if known is None
            else explanation_of(known, exhibit)
            for part, known in zip(record.parts, trail.parts, strict=True)
        ],
    }


def _hops(trail: Trail, exhibit: Exhibit) -> Iterator[Hop]:
    record = trail.record
    if trail.asked is not None:
        yield _asked(trail.asked)
    if trail.approval is not None:
        # Who asked was answered then that it waits; nobody is answered at the end.
        yield from _answered(trail.answered)
        yield _approved(trail.approval, trail.decided)
    if record.part_of:
        yield _hop(
            "begun",
            record.requested_ms,
            RECORDED,
            f"as a part of {record.part_of.hex()}",
        )
    signed_ms = _at(record, CommandState.SIGNED)
    checked = [
        _hop("checked", signed_ms, RECORDED, found, name)
        for name, found in record.checks
    ]
    if signed_ms is None:
        yield from checked
    for state, at_ms in record.trail:
        hop = _of_state(CommandState(state), at_ms, trail, exhibit.bundles)
        if state == CommandState.SIGNED:
            # What waited for its vehicle was checked when that came.
            yield from checked
        if hop is not None:
            yield hop
    if trail.receipt is not None:
        receipt = trail.receipt
        yield _hop(
            "receipted",
            receipt.signed_ms,
            SIGNED,
            f"the fleet confirmed the ledger up to {receipt.upto}, the result in it",
            _signature(receipt.data),
        )


def _put_in(answer: Hop, hops: list[Hop]) -> None:
    """Put an answer before what happened after it, as with an order that waited."""
    at_ms = answer["at_ms"]
    for place, hop in enumerate(hops):
        later_ms = hop["at_ms"]
        if isinstance(at_ms, int) and isinstance(later_ms, int) and later_ms > at_ms:
            hops.insert(place, answer)
            return
    hops.append(answer)


def _of_state(
    state: CommandState, at_ms: int, trail: Trail, bundles: Sequence[bytes]
) -> Hop | None:
    """Return the hop of one state of the command's trail."""
    record = trail.record
    if state is CommandState.REQUESTED:
        return None
    if state is CommandState.SIGNED:
        return _signed(record, at_ms, bundles)
    words = _RECORDED_WORDS.get(state)
    if words is None:
        return _told(record, state, at_ms)
    if state is CommandState.PUBLISHED and record.sends > 1:
        words += f"; sent {record.sends} times, the same bytes"
    return _hop(state.value, at_ms, RECORDED, words)


def _signed(record: CommandRecord, at_ms: int, bundles: Sequence[bytes]) -> Hop:
    key = _trusted(record.key_id, bundles)
    role = "of an unknown role" if key is None else f"of role {key.role.name.lower()}"
    words = (
        f"key {record.key_id.hex()} {role} signed it for session "
        f"{record.session_id.hex()}: lane {record.lane}, sequence {record.seq}, "
        f"valid to {record.not_after_ms} ms of the vehicle's clock"
    )
    return _hop("signed", at_ms, SIGNED, words, _signature(record.frame))


def _told(record: CommandRecord, state: CommandState, at_ms: int) -> Hop:
    """Return the hop of what the car said, or of an end that nobody needed it for."""
    data = record.result_frame
    if record.settled_by == "hello":
        data = record.hello_frame
    if state.is_terminal and record.settled_by in {"fleet", "parts"}:
        by = "its parts ended so" if record.settled_by == "parts" else "never signed"
        return _hop(state.value, at_ms, RECORDED, by)
    if not data:
        return _hop(state.value, at_ms, RECORDED, "the vehicle's word, not kept")
    frame = parse_frame(data)
    words = render_frame(frame).partition("  ")[2]
    by = f"{words}; by key {frame.header.key_id.hex()}"
    return _hop(state.value, at_ms, SIGNED, by, _signature(data))


def _asked(row: AuditRow) -> Hop:
    entry = row.entry
    who = f"{entry.who or 'somebody without a key'}, {entry.role}, asked: {entry.what}"
    return _hop("asked", entry.at_ms, CHAINED, who, f"audit row {row.row_id}")


def _answered(row: AuditRow | None) -> Iterator[Hop]:
    if row is not None:
        yield _hop(
            "answered",
            row.entry.at_ms,
            CHAINED,
            f"{row.entry.who} got {row.entry.outcome}",
            f"audit row {row.row_id}",
        )


def _approved(approval: Approval, row: AuditRow | None) -> Hop:
    words = (
        f"{approval.decided_by} {approval.state.value} what {approval.asked_by} asked: "
        f"{approval.cause.value}"
    )
    if approval.consent:
        words += "; signed with their own key"
    name = f"approval {approval.approval_id.hex()}"
    if row is None:
        return _hop("approved", approval.decided_ms, RECORDED, words, name)
    detail = f"{name}, audit row {row.row_id}"
    return _hop("approved", approval.decided_ms, CHAINED, words, detail)


def _hop(
    name: str, at_ms: int | None, shown_by: str, words: str, detail: str = ""
) -> Hop:
    return {
        "hop": name,
        "at": rfc3339(at_ms),
        "at_ms": at_ms,
        "shown_by": shown_by,
        "words": words,
        "detail": detail,
    }


def _between(before: Hop | None, hop: Hop) -> int | None:
    if before is None:
        return None
    earlier, later = before["at_ms"], hop["at_ms"]
    if not isinstance(earlier, int) or not isinstance(later, int):
        return None
    return later - earlier


def _at(record: CommandRecord, state: CommandState) -> int | None:
    return next((at for name, at in record.trail if name == state.value), None)


def _trusted(key_id: bytes, bundles: Sequence[bytes]) -> TrustedKey | None:
    """Return what the newest bundle that names a key says of it."""
    for data in reversed(bundles):
        try:
            found = BUNDLE.parse(SIGNED_BUNDLE.parse(data).body).find(key_id)
        except ProtocolError:
            continue
        if found is not None:
            return found
    return None


def _signature(data: bytes) -> str:
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def document_of_row(row: AuditRow) -> Document:
    """Return a row of the audit trail with what chains it to the one before."""
    entry = row.entry
    return {
        "id": row.row_id,
        "at": rfc3339(entry.at_ms),
        "at_ms": entry.at_ms,
        "who": entry.who,
        "role": entry.role,
        "what": entry.what,
        "outcome": entry.outcome,
        "asked": entry.asked,
        "prev_hash": row.prev_hash.hex(),
        "row_hash": row.row_hash.hex(),
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
