"""Checks of a bridge's ledger: receipts, repeats, gaps, forks, places."""

import secrets
from typing import Final

from protocol.codes import EventType, FrameClass
from protocol.entry import GENESIS, entry_hash
from protocol.place import Place
from protocol.receipt import Receipt
from protocol.sync import Resend
from tools.conformance.bridge_subject import (
    BRIDGE_SUITE,
    PlayedCar,
    Said,
    Subject,
)
from tools.conformance.check import NotReachedError, Trial

PLACE: Final = Place(481_000_000, 115_000_000, 50, 0)
"""Somewhere in Munich."""

NEWER_TYPE: Final = 0x81F0
"""An event type that version 1 does not have."""


def told(receipt: Receipt | None) -> str:
    """Return a receipt in a few words."""
    if receipt is None:
        return "no such receipt"
    gaps = ", ".join(f"{gap.first} to {gap.last}" for gap in receipt.gaps) or "none"
    return (
        f"a receipt up to {receipt.upto}, hash {receipt.head_hash.hex()[:12]}, "
        f"credit {receipt.credit}, gaps {gaps}"
    )


@BRIDGE_SUITE.check("receipts a hello and what it names", "FF-HEL-12", "FF-ADR-05")
async def answers_a_hello(trial: Trial, bridge: Subject) -> None:
    """A car that says nothing but hello learns how far it need not send again."""
    car = bridge.car
    await car.begin()
    mark = car.wire.mark
    await car.greet()
    receipt = await car.receipt_that(lambda _: True, since=mark)
    trial.judge(
        "FF-HEL-12",
        receipt is not None and receipt.credit > 0,
        sent="a hello",
        expected="a signed receipt of its ledger with credit",
        came=told(receipt),
    )
    wrong = [
        said.seen.topic
        for said in car.said()
        if said.seen.topic
        != f"ff/v1/{car.player.vehicle_id}/down/{said.frame.header.frame_class.label}"
        or said.frame.header.vehicle_id != car.player.vehicle_id
    ]
    trial.judge(
        "FF-ADR-05",
        not wrong,
        sent="a hello and an entry",
        expected="each frame under its label and the car's id",
        came=f"{len(car.said())} frames, wrong ones on {wrong or 'no topic'}",
    )


@BRIDGE_SUITE.check(
    "receipts the last entry by its own hash, and only by a receipt key",
    "FF-RCP-03",
    "FF-SIG-16",
    "FF-ADR-10",
)
async def receipts_an_entry(trial: Trial, bridge: Subject) -> None:
    """Every receipt names an entry that was sent, by number and hash."""
    car = bridge.car
    await car.begin()
    mark = car.wire.mark
    sent = {0: GENESIS, 1: car.player.head}
    for _ in range(3):
        data = car.player.started()
        sent[car.player.seq] = entry_hash(data)
        await car.send(data)
    last = await car.receipt_that(lambda one: one.upto >= 4, since=mark)  # noqa: PLR2004 - three behind the first
    # A wrong one may come behind one that looks right.
    await car.quiet()
    seen = car.receipts()
    wrong = next((one for one in seen if sent.get(one.upto) is None), None)
    trial.judge(
        "FF-RCP-03",
        last is not None and wrong is None,
        sent="entries 1 to 4",
        expected="receipts up to 4, none beyond what was sent",
        came=told(wrong or last),
    )
    other = next(
        (o for o in seen if sent.get(o.upto, o.head_hash) != o.head_hash), None
    )
    trial.judge(
        "FF-SIG-16",
        bool(seen) and other is None,
        sent="entries 1 to 4",
        expected="each receipt has the entry hash of its last entry",
        came=told(other or (seen[-1] if seen else None)),
    )
    retained = [one for one in car.wire.seen if one.retained]
    trial.judge(
        "FF-ADR-10",
        not retained,
        sent="a subscription of all that is for the car",
        expected="no message that the broker had kept",
        came=f"{len(retained)} of {len(car.wire.seen)} messages were retained",
    )


@BRIDGE_SUITE.check("keeps what it has receipted", "FF-RCP-01")
async def keeps_what_it_receipted(trial: Trial, bridge: Subject) -> None:
    """A receipt that a later one takes back told of no commit."""
    car = bridge.car
    await car.begin()
    data = await car.marker()
    mark = car.wire.mark
    await car.greet()
    receipt = await car.receipt_that(lambda _: True, since=mark)
    if receipt is None:
        raise NotReachedError("no receipt answered a second hello")
    trial.judge(
        "FF-RCP-01",
        receipt.upto >= car.player.seq and receipt.head_hash == entry_hash(data),
        sent="a hello behind an entry that had its receipt",
        expected=f"a receipt up to {car.player.seq} again",
        came=told(receipt),
    )


@BRIDGE_SUITE.check("receipts a repeated entry again, once", "FF-LED-15", "FF-LED-16")
async def receipts_a_repeat(trial: Trial, bridge: Subject) -> None:
    """The same bytes are a duplicate: confirmed, and nothing more."""
    car = bridge.car
    await car.begin()
    data = await car.marker()
    seq, mark = car.player.seq, car.wire.mark
    for _ in range(3):
        await car.send(data)
    again = await car.receipt_that(lambda _: True, since=mark)
    trial.judge(
        "FF-LED-16",
        again is not None and again.head_hash == entry_hash(data) and not again.rejects,
        sent=f"entry {seq} three times more",
        expected="the same receipt again, no reject",
        came=told(again),
    )
    after = await car.marker()
    mine = [one for one in car.receipts(since=mark) if one.upto > seq]
    trial.judge(
        "FF-LED-15",
        all(one.upto == seq + 1 and one.head_hash == entry_hash(after) for one in mine),
        sent=f"entry {seq} four times, then the next",
        expected=f"a receipt up to {seq + 1}",
        came=told(mine[-1] if mine else None),
    )


@BRIDGE_SUITE.check("asks for exactly what is missing", "FF-LED-18")
async def asks_for_a_gap(trial: Trial, bridge: Subject) -> None:
    """By the gaps of a receipt or by RESEND; and goes on when it has come."""
    car = bridge.car
    first = await car.begin()
    missing = [car.player.started() for _ in range(2)]
    behind = [car.player.started() for _ in range(2)]
    mark = car.wire.mark
    for data in behind:
        await car.send(data)

    def asks(said: Said) -> bool:
        return bool(_asked(said, car))

    asked = await car.first(asks, since=mark)
    ranges = [] if asked is None else _asked(asked, car)
    early = [one for one in car.receipts(since=mark) if one.upto > first.upto]
    trial.judge(
        "FF-LED-18",
        ranges == [(2, 3)] and not early,
        sent="entries 1, 4 and 5",
        expected="entries 2 to 3 are asked for, nothing beyond 1 is receipted",
        came=f"asked for {ranges or 'nothing'}"
        + (f", and {told(early[0])}" if early else ""),
    )
    for data in missing:
        await car.send(data)
    full = await car.receipt(entry_hash(behind[-1]), since=mark)
    trial.judge(
        "FF-LED-18",
        full is not None,
        sent="entries 2 and 3",
        expected="a receipt up to 5: what lay beyond the gap was held",
        came=told(full),
    )


@BRIDGE_SUITE.check("never receipts another entry in the same place", "FF-LED-17")
async def keeps_a_fork_apart(trial: Trial, bridge: Subject) -> None:
    """Both are signed well; the first one stays, and what follows it counts."""
    car = bridge.car
    await car.begin()
    data = await car.marker()
    fork = car.player.beside()
    await car.send(fork)
    await car.send(data)
    try:
        await car.marker()
    except NotReachedError:
        if not car.was_receipted(fork):
            raise
    merged = car.was_receipted(fork)
    trial.judge(
        "FF-LED-17",
        not merged,
        sent="two entries 2 with different bytes, then entry 3 of the first",
        expected="receipts with the hash of the first only",
        came="a receipt with the hash of the second" if merged else "only those",
    )


@BRIDGE_SUITE.check("stops where an entry does not name the one before", "FF-LED-19")
async def stops_at_a_broken_chain(trial: Trial, bridge: Subject) -> None:
    """The entry is kept and not confirmed."""
    car = bridge.car
    await car.begin()
    car.player.started()
    broken = car.player.beside(prev_hash=bytes(31) + b"\1")
    await car.send(broken)
    await car.quiet()
    taken = car.was_receipted(broken)
    trial.judge(
        "FF-LED-19",
        not taken,
        sent="an entry 2 that names another hash than that of entry 1",
        expected="no receipt for it",
        came="a receipt" if taken else "none",
    )


@BRIDGE_SUITE.check("takes entries of types and schemas to come", "FF-EVO-02")
async def takes_newer_entries(trial: Trial, bridge: Subject) -> None:
    """They are chained and receipted like any other."""
    car = bridge.car
    await car.begin()
    for text, number, schema in (
        ("an unknown type", NEWER_TYPE, 1),
        ("an unknown schema", int(EventType.AGENT_STARTED), 9),
    ):
        mark = car.wire.mark
        data = car.player.entry(FrameClass.EVENT, number, b"\7" * 20, schema=schema)
        await car.send(data)
        receipt = await car.receipt(entry_hash(data), since=mark)
        rejects = [one for one in car.receipts(since=mark) if one.rejects]
        trial.judge(
            "FF-EVO-02",
            receipt is not None and not rejects,
            sent=f"an event of {text}",
            expected="a receipt and no reject",
            came=told(receipt),
        )


@BRIDGE_SUITE.check("refuses for good an entry whose body is wrong", "FF-RCP-11")
async def rejects_a_wrong_body(trial: Trial, bridge: Subject) -> None:
    """By a signed reject, as often as the entry comes."""
    car = bridge.car
    await car.begin()
    wrong = car.player.entry(FrameClass.EVENT, int(EventType.AGENT_STARTED), b"\0")
    seq = car.player.seq
    for time in ("once", "again"):
        mark = car.wire.mark
        await car.send(wrong)
        receipt = await car.receipt_that(
            lambda one: any(reject.seq == seq for reject in one.rejects), since=mark
        )
        trial.judge(
            "FF-RCP-11",
            receipt is not None,
            sent=f"{time}, an event AGENT_STARTED with a body of one byte",
            expected=f"a reject of entry {seq} with a code",
            came=told(receipt),
        )


@BRIDGE_SUITE.check("waits for a place that an entry commits to", "FF-PLC-06")
async def waits_for_a_place(trial: Trial, bridge: Subject) -> None:
    """The receipt is withheld until the place has come, or the entry three times."""
    car = bridge.car
    await car.begin()
    place, entry = car.player.parked(PLACE, secrets.token_bytes(16))
    await car.send(entry)
    await car.quiet()
    early, mark = car.was_receipted(entry), car.wire.mark
    await car.send(place, FrameClass.TELEM)
    receipt = await car.receipt(entry_hash(entry), since=mark)
    trial.judge(
        "FF-PLC-06",
        not early and receipt is not None,
        sent="an entry with a commitment, later its place",
        expected="no receipt before the place, one after it",
        came=("a receipt before, " if early else "none before, ") + told(receipt),
    )
    _, entry = car.player.parked(PLACE, secrets.token_bytes(16))
    mark = car.wire.mark
    for _ in range(3):
        await car.send(entry)
    receipt = await car.receipt(entry_hash(entry), since=mark)
    trial.judge(
        "FF-PLC-06",
        receipt is not None,
        sent="an entry with a commitment three times, never its place",
        expected="a receipt after the third",
        came=told(receipt),
    )


@BRIDGE_SUITE.check("takes no place that does not fit the commitment", "FF-PLC-05")
async def refuses_another_place(trial: Trial, bridge: Subject) -> None:
    """A place with another salt is not that of the entry: it still waits."""
    car = bridge.car
    await car.begin()
    salt = secrets.token_bytes(16)
    place, entry = car.player.parked(PLACE, salt)
    other = car.player.altered(
        place, len(place) - 64 - 12 - 16, secrets.token_bytes(16)
    )
    other = car.player.resigned(other[:-64], label=FrameClass.TELEM)
    await car.send(entry)
    await car.send(other, FrameClass.TELEM)
    await car.quiet()
    taken, mark = car.was_receipted(entry), car.wire.mark
    await car.send(place, FrameClass.TELEM)
    receipt = await car.receipt(entry_hash(entry), since=mark)
    trial.judge(
        "FF-PLC-05",
        not taken and receipt is not None,
        sent="an entry, a place with another salt, then the right place",
        expected="a receipt after the right place only",
        came=("a receipt before, " if taken else "none before, ") + told(receipt),
    )


def _asked(said: Said, car: PlayedCar) -> list[tuple[int, int]]:
    body, ledger_id = said.body, car.player.ledger_id
    if isinstance(body, Receipt) and body.ledger_id == ledger_id:
        return [(gap.first, gap.last) for gap in body.gaps]
    if isinstance(body, Resend) and body.ledger_id == ledger_id:
        return [(body.first, body.last)]
    return []
