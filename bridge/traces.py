"""Spans of what the bridge did, from what it has stored anyway (pure).

`transport.span` says what their ids follow from. No attribute tells of a customer, a
card or a place (K25); a rental's id is in none.
"""

import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from bridge.cloud_event import RESULT_TYPE, type_of
from bridge.commands import CommandRecord, CommandState
from bridge.ingest import VerifiedEntry
from bridge.rows.outbox import OutboxRow
from protocol.entry import event_id
from protocol.frame import parse_frame
from protocol.result import Result
from transport.span import CAR, COMMAND, ENTRY, UPLINK, Attribute, Span, span_id

ACCEPT: Final = "api.accept"
"""From the order at the API until it is stored."""
SIGN: Final = "sign"
"""From the order until its frame is signed."""
PUBLISH: Final = "publish"
"""From the signature until the broker has it."""
VERIFY: Final = "verify"
"""The batch's signatures."""
STORE: Final = "store"
"""The batch's commit."""
RECEIPT: Final = "receipt"
"""From the commit until the broker has the signed receipt."""
DELIVER: Final = "deliver"
"""From a sink's first attempt until its consumer has the event, or never will."""

_FAILED: Final = frozenset(
    {
        CommandState.FAILED,
        CommandState.REJECTED,
        CommandState.EXPIRED,
        CommandState.INDETERMINATE,
        CommandState.PARTIAL,
    }
)


class _ResultData(msgspec.Struct):
    request_id: str


class _ResultEvent(msgspec.Struct):
    data: _ResultData


@dataclass(frozen=True, slots=True)
class Times:
    """When a batch passed each stage, UTC ms."""

    received_ms: int
    """Taken from the broker."""
    verified_ms: int
    """Signatures checked."""
    begun_ms: int
    """Its transaction began."""
    stored_ms: int
    """Its transaction is committed."""


def trace_of_entry(entry: VerifiedEntry) -> bytes:
    """Return an entry's trace: of a result that of its command."""
    if isinstance(entry.body, Result):
        return entry.body.request_id
    header = entry.frame.header
    return event_id(header.vehicle_id.raw, entry.link.ledger_id, header.seq)


def trace_of_row(row: OutboxRow) -> bytes:
    """Return the trace of an event on its way to a consumer; never raises."""
    text = row.event_id
    if row.type == RESULT_TYPE:
        with contextlib.suppress(msgspec.DecodeError):
            text = msgspec.json.decode(row.body, type=_ResultEvent).data.request_id
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        # No delivery may fail for its trace.
        return hashlib.sha256(text.encode()).digest()[:16]


def trace_parent(row: OutboxRow, sink: str) -> str:
    """Return W3C's ``traceparent`` of the delivery of an event to a sink."""
    trace_id = trace_of_row(row)
    parent = span_id(trace_id, DELIVER, _delivery(row, sink))
    return f"00-{trace_id.hex()}-{parent.hex()}-01"


def accepted(record: CommandRecord, *, begun_ms: int, now: int) -> Span:
    """Return the span of an order that the API took."""
    about = _about_command(record)
    return Span(record.command_id, ACCEPT, begun_ms, now, COMMAND, attributes=about)


def ended(record: CommandRecord) -> Iterator[Span]:
    """Yield the spans of a command that is over, from its trail."""
    trace_id, about = record.command_id, _about_command(record)
    first: dict[str, int] = {}
    for state, at_ms in record.trail:
        first.setdefault(state, at_ms)
    end_ms = max(record.trail[-1][1], record.requested_ms)
    code = {} if record.code is None else {"freefloat.code": record.code.name.lower()}
    yield Span(
        trace_id,
        COMMAND,
        record.requested_ms,
        end_ms,
        is_error=record.state in _FAILED,
        attributes={
            **about,
            **code,
            "freefloat.state": record.state.value,
            "freefloat.sends": record.sends,
        },
    )
    signed_ms = first.get(CommandState.SIGNED)
    if signed_ms is None:
        return
    yield Span(trace_id, SIGN, record.requested_ms, signed_ms, COMMAND)
    published_ms = first.get(CommandState.PUBLISHED)
    if published_ms is None:
        return
    yield Span(trace_id, PUBLISH, signed_ms, published_ms, COMMAND)
    if record.result_frame:
        label_ms = parse_frame(record.result_frame).header.wall_ms
        told_ms = min(max(label_ms, published_ms), end_ms)
        yield Span(trace_id, CAR, published_ms, told_ms, COMMAND, attributes=code)


def stored(entry: VerifiedEntry, times: Times) -> Iterator[Span]:
    """Yield the spans of an entry that is committed."""
    trace_id, header = trace_of_entry(entry), entry.frame.header
    is_result = isinstance(entry.body, Result)
    key = str(header.seq) if is_result else ""
    about: dict[str, Attribute] = {
        "freefloat.vehicle_id": str(header.vehicle_id),
        "freefloat.type": type_of(entry),
        "freefloat.seq": header.seq,
    }
    told_ms = min(header.wall_ms, times.received_ms)
    if not is_result:
        yield Span(trace_id, ENTRY, told_ms, times.stored_ms, attributes=about)
    parent = COMMAND if is_result else ENTRY
    for name, start_ms, end_ms in (
        (UPLINK, told_ms, times.received_ms),
        (VERIFY, times.received_ms, times.verified_ms),
        (STORE, times.begun_ms, times.stored_ms),
    ):
        yield Span(
            trace_id,
            name,
            start_ms,
            max(start_ms, end_ms),
            parent,
            key,
            attributes=about if name is STORE else {},
        )


def receipted(entry: VerifiedEntry, *, stored_ms: int, now: int) -> Span:
    """Return the span of the receipt that covers an entry."""
    is_result = isinstance(entry.body, Result)
    return Span(
        trace_of_entry(entry),
        RECEIPT,
        stored_ms,
        max(stored_ms, now),
        COMMAND if is_result else ENTRY,
        str(entry.frame.header.seq) if is_result else "",
    )


def delivered(
    row: OutboxRow, sink: str, *, begun_ms: int, now: int, attempts: int, taken: bool
) -> Span:
    """Return the span of an event's delivery to a sink."""
    is_result = row.type == RESULT_TYPE
    return Span(
        trace_of_row(row),
        DELIVER,
        begun_ms,
        max(begun_ms, now),
        COMMAND if is_result else ENTRY,
        _delivery(row, sink),
        is_error=not taken,
        attributes={
            "freefloat.sink": sink,
            "freefloat.type": row.type,
            "freefloat.attempts": attempts,
        },
    )


def _delivery(row: OutboxRow, sink: str) -> str:
    return f"{sink} {row.event_id}"


def _about_command(record: CommandRecord) -> dict[str, Attribute]:
    return {
        "freefloat.kind": record.kind,
        "freefloat.vehicle_id": str(record.vehicle_id),
    }
