"""The ledger's chain and what a receipt frees (I-21, I-22, I-27)."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ledger import (
    Freed,
    LedgerHead,
    SealedEntry,
    Signatory,
    judge_receipt,
    seal_entry,
    sign_refusal,
    sign_report,
)
from gateway.core.moment import Moment
from gateway.core.state import Request, State
from gateway.core.turn import result_of
from protocol.codes import (
    ClockQuality,
    Code,
    Executed,
    FaultKind,
    FrameClass,
    FrameType,
    Retry,
)
from protocol.content import parse_content
from protocol.entry import GENESIS, entry_hash, event_id
from protocol.event import (
    EventBody,
    FaultRaised,
    PinAccepted,
    ReservationExpired,
)
from protocol.frame import FLAG_HISTORICAL, parse_frame
from protocol.receipt import Receipt, Reject
from protocol.result import Result
from protocol.signing import verify_frame
from tests.gateway.core.desk import NOW, RENTAL, SESSION
from tools.published_keys import CAR_A, CAR_A_KEY, FLEET_ID, LEDGER

SIGNATORY: Final = Signatory(CAR_A, FLEET_ID, SESSION, CAR_A_KEY.key)
EMPTY: Final = LedgerHead(LEDGER, 0, GENESIS)
REQUEST: Final = Request(b"\x77" * 16, b"\x78" * 32)
RESULT: Final = result_of(State(version=3), REQUEST, Code.OK, Executed.YES)
BODIES: Final[tuple[EventBody | Result, ...]] = (
    ReservationExpired(RENTAL),
    RESULT,
    FaultRaised(FaultKind.READER_GONE),
    PinAccepted(RENTAL),
)


def _sealed(count: int = len(BODIES)) -> tuple[list[SealedEntry], LedgerHead]:
    head, entries = EMPTY, []
    for number in range(count):
        now = replace(NOW, boot_ms=NOW.boot_ms + number)
        entry, head = seal_entry(BODIES[number % len(BODIES)], head, SIGNATORY, now=now)
        entries.append(entry)
    return entries, head


def test_each_entry_names_the_one_before() -> None:
    # FF-LED-01, FF-LED-02, FF-LED-03, FF-SIG-01.
    # I-27
    entries, head = _sealed()

    previous = GENESIS
    for seq, (entry, body) in enumerate(zip(entries, BODIES, strict=True), start=1):
        frame = parse_frame(entry.frame)
        verify_frame(frame, fleet_id=FLEET_ID, key=CAR_A_KEY.key.verify_key)
        content = parse_content(frame)
        assert content.link is not None
        assert content.body == body
        assert (frame.header.seq, entry.seq) == (seq, seq)
        assert content.link.prev_hash == previous
        assert content.link.ledger_id == LEDGER
        assert frame.header.msg_id == event_id(CAR_A.raw, LEDGER, seq)
        assert frame.header.session_id == SESSION
        assert frame.header.mono_ms == NOW.boot_ms + seq - 1
        previous = entry_hash(entry.frame)
        assert entry.hash == previous
    assert head == LedgerHead(LEDGER, len(BODIES), previous)


def test_results_answer_their_command_and_events_answer_none() -> None:
    entries, _head = _sealed()

    assert [entry.request_id for entry in entries] == [
        None,
        REQUEST.msg_id,
        None,
        None,
    ]
    assert [entry.frame_class for entry in entries] == [
        FrameClass.EVENT,
        FrameClass.RESULT,
        FrameClass.EVENT,
        FrameClass.EVENT,
    ]


def test_entries_are_the_same_bytes_whenever_they_are_made() -> None:
    # FF-LED-06.
    # Ed25519 is deterministic; a resend is bit-identical.
    assert _sealed() == _sealed()


@pytest.mark.parametrize("quality", list(ClockQuality))
def test_an_entry_says_how_far_its_label_can_be_trusted(quality: ClockQuality) -> None:
    # FF-LED-12.
    now = Moment(1, 2, quality)

    entry, _head = seal_entry(ReservationExpired(RENTAL), EMPTY, SIGNATORY, now=now)

    link = parse_content(parse_frame(entry.frame)).link
    assert link is not None
    assert link.clock_quality is quality


def test_a_refusal_stands_outside_the_ledger() -> None:
    # FF-CMD-14.
    # Replayed frames must cost no disk (protocol-design.md 1.2).
    _entries, head = _sealed()
    refusal = result_of(State(), REQUEST, Code.SESSION_STALE, Executed.MAYBE)

    frame = parse_frame(sign_refusal(refusal, head, SIGNATORY, now=NOW))

    verify_frame(frame, fleet_id=FLEET_ID, key=CAR_A_KEY.key.verify_key)
    content = parse_content(frame)
    assert frame.header.seq == 0
    assert frame.header.msg_id == REQUEST.msg_id
    assert content.link is not None
    assert (content.link.prev_hash, content.link.ledger_id) == (GENESIS, LEDGER)
    assert content.body == refusal
    assert refusal.retry is Retry.AFTER_RESYNC


def test_a_report_is_no_entry() -> None:
    data = sign_report(
        FrameClass.TELEM,
        FrameType.TELEMETRY,
        b"\0",
        SIGNATORY,
        seq=9,
        msg_id=b"\5" * 16,
        now=NOW,
        flags=FLAG_HISTORICAL,
    )

    header = parse_frame(data).header
    assert (header.frame_class, header.seq) == (FrameClass.TELEM, 9)
    assert header.flags == FLAG_HISTORICAL
    assert header.wall_ms == NOW.wall_ms


# --- receipts ----------------------------------------------------------------------


def _judge(receipt: Receipt, *, receipted: int = 1) -> Freed | None:
    """Judge against a ledger of four entries of which the first is receipted."""
    entries, head = _sealed()
    stored = {entry.seq: entry.hash for entry in entries if entry.seq > receipted}
    return judge_receipt(receipt, head, receipted=receipted, hash_at=stored.get)


def _receipt(
    upto: int,
    *,
    ledger_id: bytes = LEDGER,
    head_hash: bytes | None = None,
    rejects: tuple[Reject, ...] = (),
) -> Receipt:
    entries, _head = _sealed()
    hashes = {entry.seq: entry.hash for entry in entries}
    named = hashes.get(upto, bytes(32)) if head_hash is None else head_hash
    return Receipt(ledger_id, upto, named, 16, (), rejects)


@pytest.mark.parametrize("upto", [2, 3, 4])
def test_a_receipt_frees_what_it_names(upto: int) -> None:
    # I-22
    assert _judge(_receipt(upto)) == Freed(upto, ())


@pytest.mark.parametrize("upto", [0, 1])
def test_an_older_receipt_frees_nothing_more_and_harms_nothing(upto: int) -> None:
    # FF-RCP-09.
    assert _judge(_receipt(upto)) == Freed(1, ())


def test_a_receipt_twice_is_a_receipt_once() -> None:
    # FF-RCP-09.
    assert _judge(_receipt(3), receipted=3) == Freed(3, ())


def test_a_receipt_for_another_ledger_frees_nothing() -> None:
    # FF-RCP-07.
    assert _judge(_receipt(3, ledger_id=bytes(8))) is None


@pytest.mark.parametrize("upto", [5, 2**64 - 1])
def test_a_receipt_for_entries_that_do_not_exist_frees_nothing(upto: int) -> None:
    # FF-RCP-07.
    assert _judge(_receipt(upto)) is None


@pytest.mark.parametrize("head_hash", [bytes(32), b"\xff" * 32])
def test_a_receipt_for_other_bytes_frees_nothing(head_hash: bytes) -> None:
    # FF-RCP-08.
    # I-22: the hash is that of another entry, or of none.
    assert _judge(_receipt(3, head_hash=head_hash)) is None


@given(
    upto=st.integers(0, 6),
    ledger_id=st.sampled_from([LEDGER, bytes(8)]),
    place=st.integers(0, 31),
    flip=st.integers(0, 255),
)
def test_whatever_a_receipt_says_it_frees_the_entries_that_it_names_or_none(
    upto: int, ledger_id: bytes, place: int, flip: int
) -> None:
    """I-22 (P): ledger, sequence and each bit of the hash must fit."""
    hashes = {entry.seq: entry.hash for entry in _sealed()[0]}
    named = bytearray(hashes.get(upto, bytes(32)))
    named[place] ^= flip

    freed = _judge(_receipt(upto, ledger_id=ledger_id, head_hash=bytes(named)))

    if ledger_id != LEDGER or upto > len(hashes):
        assert freed is None
    elif upto <= 1:
        assert freed in {None, Freed(1, ())}  # receipted before: nothing more
    else:
        assert freed == (None if flip else Freed(upto, ()))


def test_a_receipt_with_the_hash_of_a_neighbour_frees_nothing() -> None:
    # FF-RCP-08.
    entries, _head = _sealed()

    assert _judge(_receipt(3, head_hash=entries[1].hash)) is None


def test_rejected_entries_are_kept_aside() -> None:
    # FF-RCP-10.
    rejects = (Reject(2, Code.BAD_PARAM), Reject(3, Code.NON_CANONICAL))

    freed = _judge(_receipt(4, rejects=rejects))

    assert freed == Freed(4, ((2, Code.BAD_PARAM), (3, Code.NON_CANONICAL)))


def test_rejects_of_what_is_freed_or_not_there_are_nothing() -> None:
    # FF-RCP-10.
    rejects = (Reject(1, Code.BAD_PARAM), Reject(5, Code.BAD_PARAM))

    assert _judge(_receipt(4, rejects=rejects)) == Freed(4, ())
