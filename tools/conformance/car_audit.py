"""Checks of a car over everything that it said while it was tested; they come last."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from protocol.codes import FrameClass, SyncType
from protocol.content import parse_content
from protocol.entry import GENESIS, entry_hash, event_id
from protocol.errors import ProtocolError
from protocol.frame import CLASS_LIMITS
from protocol.hello import NO_NONCE, Hello
from protocol.result import Result, retry_of
from protocol.signing import request_hash, verify_frame
from protocol.topic import topic_of
from tools.conformance.car_subject import CAR_SUITE, Car, Said, result_of
from tools.conformance.check import NotReachedError, Trial
from tools.conformance.wire import Seen

EVERYTHING = "everything of this run"


def _judge(
    trial: Trial, clause: str, wrong: Sequence[object], expected: str, count: int
) -> None:
    if not count:
        trial.not_reached(clause, "nothing came that shows it")
        return
    trial.judge(
        clause, not wrong, sent=EVERYTHING, expected=expected,
        came=f"{len(wrong)} of {count}, first {wrong[0]}" if wrong else f"all {count}",
    )  # fmt: skip


@CAR_SUITE.check(
    "signs canonical frames, on their topics, of quality 1 and not retained",
    "FF-FRM-01", "FF-SIG-01", "FF-ADR-04", "FF-ADR-10", "FF-ADR-13", "FF-LIM-01",
)  # fmt: skip
async def frames(trial: Trial, car: Car) -> None:
    """FF-FRM-01, FF-SIG-01, FF-ADR-04, FF-ADR-10, FF-ADR-13, FF-LIM-01."""
    seen = car.wire.seen
    whole = [one for one in seen if one.frame is not None]
    _judge(
        trial, "FF-FRM-01", [one for one in seen if not _is_canonical(one)],
        "a frame with a canonical payload", len(seen),
    )  # fmt: skip
    _judge(
        trial, "FF-SIG-01", [one for one in whole if not _is_signed(car, one)],
        "a signature of the vehicle's key", len(whole),
    )  # fmt: skip
    _judge(
        trial, "FF-ADR-04",
        [one for one in whole if one.frame is not None and one.topic
         != topic_of(car.inputs.vehicle_id, one.frame.header.frame_class)],
        "the topic of its class", len(whole),
    )  # fmt: skip
    _judge(
        trial, "FF-ADR-10", [one for one in seen if one.retained], "not retained",
        len(seen),
    )  # fmt: skip
    kept = {FrameClass.HELLO, FrameClass.EVENT, FrameClass.RESULT}
    entries = [
        one for one in whole
        if one.frame is not None and one.frame.header.frame_class in kept
    ]  # fmt: skip
    _judge(
        trial, "FF-ADR-13", [one for one in entries if one.qos != 1],
        "quality of service 1", len(entries),
    )  # fmt: skip
    _judge(
        trial, "FF-LIM-01",
        [one for one in whole if one.frame is not None
         and len(one.data) > CLASS_LIMITS[one.frame.header.frame_class]],
        "at most the bytes of its class", len(whole),
    )  # fmt: skip


def _is_canonical(seen: Seen) -> bool:
    try:
        return seen.frame is not None and bool(parse_content(seen.frame))
    except ProtocolError:
        return False


def _is_signed(car: Car, seen: Seen) -> bool:
    try:
        if seen.frame is not None:
            verify_frame(
                seen.frame, fleet_id=car.inputs.fleet_id, key=car.inputs.vehicle_key
            )
    except ProtocolError:
        return False
    return True


@CAR_SUITE.check(
    "names the request, the retry class and no local code in every result",
    "FF-RES-01", "FF-RES-05", "FF-RES-08", "FF-CMD-14",
)  # fmt: skip
async def results(trial: Trial, car: Car) -> None:
    """FF-RES-01, FF-RES-05, FF-RES-08, FF-CMD-14."""
    hashes: dict[bytes, set[bytes]] = {}
    for order in car.orders:
        hashes.setdefault(order.msg_id, set()).add(request_hash(order.data))
    ours: list[tuple[Said, Result]] = []
    for said in car.all_said():
        result = result_of(said)
        if result is not None and result.request_id in hashes:
            ours.append((said, result))
    refusals = [(said, one) for said, one in ours if not said.header.seq]
    _judge(
        trial, "FF-RES-01",
        [said.seen for said, one in ours
         if one.request_hash not in hashes[one.request_id]],
        "the request hash of the bytes that were sent", len(ours),
    )  # fmt: skip
    _judge(
        trial, "FF-RES-05",
        [said.seen for said, one in ours if one.retry is not retry_of(one.code)],
        "the retry class of the table of codes", len(ours),
    )  # fmt: skip
    _judge(
        trial, "FF-RES-08", [said.seen for said, one in ours if one.code.local_only],
        "no code of 0x07xx", len(ours),
    )  # fmt: skip
    _judge(
        trial, "FF-CMD-14",
        [said.seen for said, one in refusals if said.link is None
         or said.link.prev_hash != GENESIS or said.header.msg_id != one.request_id],
        "a previous hash of zeros and the command's message id", len(refusals),
    )  # fmt: skip


@CAR_SUITE.check(
    "keeps one ledger: numbered, chained and unchanged",
    "FF-LED-01", "FF-LED-02", "FF-LED-03", "FF-LED-06", "FF-SIG-16",
)  # fmt: skip
async def ledger(trial: Trial, car: Car) -> None:
    """FF-LED-01, FF-LED-02, FF-LED-03, FF-LED-06, FF-SIG-16."""
    car.absorb()
    entries = car.entries
    found = sorted(seq for seq in entries if seq > car.base)
    if not found:
        raise NotReachedError("no entry came")
    every = range(found[0], found[-1] + 1)
    _judge(
        trial, "FF-LED-01", [seq for seq in every if seq not in entries],
        "no number left out", len(every),
    )  # fmt: skip
    said = {seq: car.said(entries[seq]) for seq in found}
    followers = [seq for seq in found if seq - 1 in entries]
    _judge(
        trial, "FF-LED-02",
        [seq for seq in followers if _prev_hash(said[seq])
         != entry_hash(entries[seq - 1].data)],
        "the hash of the entry before", len(followers),
    )  # fmt: skip
    _judge(
        trial, "FF-LED-03",
        [seq for seq in found if (one := said[seq]) is not None and one.link is not None
         and one.header.msg_id
         != event_id(car.inputs.vehicle_id.raw, one.link.ledger_id, seq)],
        "the event id as message id", len(found),
    )  # fmt: skip
    changed = [
        one.header.seq for one in car.all_said()
        if one.link is not None and one.header.seq in entries
        and entries[one.header.seq].data != one.seen.data
    ]  # fmt: skip
    _judge(
        trial, "FF-LED-06", changed, "the same bytes whenever it is sent", len(found)
    )
    heads = [
        one.body for one in car.all_said()
        if isinstance(one.body, Hello) and one.body.head_seq in entries
    ]  # fmt: skip
    _judge(
        trial, "FF-SIG-16",
        [one.head_seq for one in heads
         if one.head_hash != entry_hash(entries[one.head_seq].data)],
        "the entry hash of its newest entry in each hello", len(heads),
    )  # fmt: skip


def _prev_hash(said: Said | None) -> bytes:
    return b"" if said is None or said.link is None else said.link.prev_hash


@CAR_SUITE.check(
    "numbers hellos and telemetry, and tells how commands ended",
    "FF-HEL-02", "FF-HEL-05", "FF-HEL-06", "FF-HEL-08", "FF-TEL-01",
)  # fmt: skip
async def numbers(trial: Trial, car: Car) -> None:
    """FF-HEL-02, FF-HEL-05, FF-HEL-06, FF-HEL-08, FF-TEL-01."""
    last, said = await car.ask(car.ping())
    hello = await car.renew()
    newest = [one.msg_id for one in hello.outcomes]
    trial.judge(
        "FF-HEL-05", bool(newest) and newest[-1] == last.msg_id,
        sent="PING, then CHALLENGE", expected="its outcome last in the hello",
        came=f"{len(newest)} outcomes, last {newest[-1].hex() if newest else 'none'}",
    )  # fmt: skip
    place = (last.signer.key_id, last.draft.lane, last.draft.seq)
    trial.judge(
        "FF-HEL-06",
        place in {(one.key_id, one.lane, one.seq) for one in hello.lanes},
        sent="PING, then CHALLENGE", expected=f"sequence {last.draft.seq} of its key",
        came=f"{len(hello.lanes)} lanes" + ("" if said else ", and no RESULT"),
    )  # fmt: skip
    heard = car.all_said()
    hellos = _once(one for one in heard if isinstance(one.body, Hello))
    _judge(
        trial, "FF-HEL-02", _falling(hellos), "a sequence above the one before",
        len(hellos),
    )  # fmt: skip
    asked = {
        one.draft.payload for one in car.syncs if one.draft.type == SyncType.CHALLENGE
    }
    _judge(
        trial, "FF-HEL-08",
        [one.seen for one in hellos if isinstance(one.body, Hello)
         and one.body.nonce not in {NO_NONCE, *asked}],
        "a nonce of zeros or of a CHALLENGE", len(hellos),
    )  # fmt: skip
    batches = _once(one for one in heard if one.header.frame_class is FrameClass.TELEM)
    _judge(
        trial, "FF-TEL-01", _falling(batches), "a batch number above the one before",
        len(batches),
    )  # fmt: skip


def _once(heard: Iterable[Said]) -> list[Said]:
    """Leave out what the broker brought twice."""
    return list({one.seen.data: one for one in heard}.values())


def _falling(heard: Sequence[Said]) -> list[Seen]:
    return [
        later.seen
        for earlier, later in pairwise(heard)
        if later.header.seq <= earlier.header.seq
    ]
