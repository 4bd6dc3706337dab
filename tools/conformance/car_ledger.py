"""Checks of a car: receipts, resends, challenges, and the time of the fleet."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protocol.codes import ClockQuality, Code, FrameClass, Lane, Role, SyncType
from protocol.entry import entry_hash
from protocol.hello import Hello
from protocol.receipt import Gap, Reject
from protocol.result import Result
from protocol.sync import Challenge, FleetTime
from tools.conformance.car_frames import flipped
from tools.conformance.car_inputs import Signer, WantedGrant
from tools.conformance.car_subject import CAR_SUITE, SYNC_LIFE_MS, Car, Order, shown
from tools.conformance.check import NotReachedError, Trial
from tools.conformance.wire import Seen

YEAR_MS = 365 * 86_400_000
NEAR_MS = 60_000


@asynccontextmanager
async def withheld(car: Car, entries: int) -> AsyncIterator[int]:
    """Let receipts wait, with so many entries under way; gives the last receipted."""
    await car.require_fence()
    await car.keep()
    car.withheld = True
    try:
        base = (await car.renew()).oldest_unreceipted - 1
        for _ in range(entries):
            await car.ask(car.ping())
        if car.top < base + entries:
            raise NotReachedError("results of PING did not come as ledger entries")
        yield base
    finally:
        car.withheld = False
        await car.keep()


def _hash(car: Car, seq: int) -> bytes:
    return entry_hash(car.entries[seq].data)


@CAR_SUITE.check(
    "frees nothing but by a receipt that is right",
    "FF-RCP-04", "FF-RCP-05", "FF-RCP-06", "FF-RCP-07", "FF-RCP-08", "FF-RCP-09",
    "FF-RCP-16", "FF-AUTH-12", "FF-HEL-07",
)  # fmt: skip
async def forged_receipts(trial: Trial, car: Car) -> None:
    """FF-RCP-04 to FF-RCP-09, FF-RCP-16, FF-AUTH-12, FF-HEL-07."""
    async with withheld(car, 3) as base:
        top = base + 3
        right = _hash(car, top)
        outdated = next(
            (one for one in car.inputs.signers if one.grant is not None
             and one.grant.role is Role.RECEIPT
             and not car.inputs.is_current(one.grant)), None,
        )  # fmt: skip
        good = car.receipt_frame(top, right)
        crossed = good.draft.payload[:50] + b"\1" + bytes(7) + b"\2" + bytes(7) + b"\1"
        tried: list[tuple[str, str, bytes]] = [
            ("FF-RCP-04", "signed by a command key",
             car.receipt_frame(top, right, signer=car.commanders[0]).data),
            ("FF-RCP-06", "of schema 2", car.receipt_frame(top, right, schema=2).data),
            ("FF-RCP-06", "of type 2", car.receipt_frame(top, right, type=2).data),
            ("FF-RCP-07", "of another ledger",
             car.receipt_frame(top, right, ledger_id=secrets.token_bytes(8)).data),
            ("FF-RCP-07", "beyond the newest entry",
             car.receipt_frame(top + 50, right).data),
            ("FF-RCP-08", "with another hash",
             car.receipt_frame(top, secrets.token_bytes(32)).data),
            ("FF-RCP-16", "with a gap whose first is above its last",
             car.receipt_frame(top, right, payload=crossed + bytes(8)).data),
            ("FF-AUTH-12", "with a changed bit", flipped(good.data, 800)),
        ]  # fmt: skip
        if outdated is None:
            trial.not_reached("FF-RCP-05", "no receipt key out of its dates was given")
        else:
            tried.append(
                ("FF-RCP-05", "of a key out of its dates",
                 car.receipt_frame(top, right, signer=outdated).data)
            )  # fmt: skip
        freed = base
        for clause, what, data in tried:
            before = freed
            freed = await _freed_by(car, data)
            trial.judge(
                clause, freed == before,
                sent=f"RECEIPT {what}, for entries up to {top}",
                expected=f"a hello with receipts up to {before}",
                came=f"a hello with receipts up to {freed}",
            )  # fmt: skip
        for what, upto in (
            ("", base + 1),
            (" again", base + 1),
            (", an old one", base),
        ):
            hash_ = _hash(car, upto) if upto in car.entries else bytes(32)
            freed = await _freed_by(car, car.receipt_frame(upto, hash_).data)
            trial.judge(
                "FF-RCP-09", freed >= base + 1,
                sent=f"RECEIPT up to {upto}{what}",
                expected=f"a hello with receipts up to {base + 1}",
                came=f"a hello with receipts up to {freed}",
            )  # fmt: skip
        head = await _head(car)
        trial.judge(
            "FF-HEL-07",
            head >= top and head in car.entries
            and car.greeting.head_hash == _hash(car, head),
            sent="CHALLENGE",
            expected=f"a hello with head {top} or above and its entry's hash",
            came=f"head {head}, {car.greeting.head_hash.hex()[:16]}",
        )  # fmt: skip


async def _head(car: Car) -> int:
    """Return the head that a hello names, of an entry that has come if it does.

    A car may write more than results: an answer to a ping follows its result (FF-DIA).
    """
    for _ in range(5):
        if car.greeting.head_seq in car.entries:
            break
        await car.renew()
    return car.greeting.head_seq


async def _freed_by(car: Car, data: bytes) -> int:
    await car.put(FrameClass.RECEIPT, data)
    return (await car.renew()).oldest_unreceipted - 1


@CAR_SUITE.check(
    "sends again what it is asked for, with the same bytes",
    "FF-SYN-07", "FF-SYN-08", "FF-LED-07", "FF-RCP-10", "FF-RCP-13",
)  # fmt: skip
async def resends(trial: Trial, car: Car) -> None:
    """FF-SYN-07, FF-SYN-08, FF-LED-07, FF-RCP-10, FF-RCP-13."""
    async with withheld(car, 3) as base:
        first, top = base + 1, base + 3
        mark = car.wire.mark
        await car.ask_again(first, top, ledger_id=secrets.token_bytes(8))
        await car.renew()
        await car.wire.quiet(car.inputs.silence_s)
        strays = _again(car, mark, first, top)
        trial.judge(
            "FF-SYN-08", not strays,
            sent="RESEND of another ledger", expected="no entry again",
            came=f"entries {sorted(strays)}",
        )  # fmt: skip
        mark = car.wire.mark
        await car.ask_again(first, top)
        came = await _come_again(car, mark, first, top)
        sent = f"RESEND {first} to {top}, which have no receipt"
        trial.judge(
            "FF-SYN-07", _are_same(car, came, first, top), sent=sent,
            expected="those entries, byte for byte", came=_told(car, came),
        )  # fmt: skip
        if came:
            trial.judge(
                "FF-LED-07", set(came) == set(range(first, top + 1)), sent=sent,
                expected="each of them is still held", came=_told(car, came),
            )  # fmt: skip
        else:
            trial.not_reached("FF-LED-07", "entries do not come again anyway")
        mark = car.wire.mark
        await car.receipt(base, _base_hash(car, base), gaps=(Gap(first + 1, top),))
        came = await _come_again(car, mark, first + 1, top)
        trial.judge(
            "FF-RCP-13", _are_same(car, came, first + 1, top),
            sent=f"RECEIPT up to {base} with a gap {first + 1} to {top}",
            expected="those entries, byte for byte", came=_told(car, came),
        )  # fmt: skip
        if not came:
            trial.not_reached("FF-RCP-10", "entries do not come again anyway")
            return
        rejected = (Reject(first, Code.BAD_PARAM),)
        await car.receipt(base, _base_hash(car, base), rejects=rejected)
        mark = car.wire.mark
        await car.ask_again(first, top)
        came = await _come_again(car, mark, first + 1, top)
        again = _again(car, mark, first, top)
        trial.judge(
            "FF-RCP-10", bool(again) and first not in again,
            sent=f"RECEIPT that rejects {first}, RESEND {first} to {top}",
            expected=f"the others and not {first}", came=f"entries {sorted(again)}",
        )  # fmt: skip


def _base_hash(car: Car, base: int) -> bytes:
    return _hash(car, base) if base in car.entries else bytes(32)


def _again(car: Car, mark: int, first: int, last: int) -> dict[int, Seen]:
    return {
        said.header.seq: said.seen
        for said in car.all_said(mark)
        if said.link is not None and first <= said.header.seq <= last
    }


async def _come_again(car: Car, mark: int, first: int, last: int) -> dict[int, Seen]:
    """Wait until a range has come from a mark on, or the time for an answer is over."""
    await car.hear(
        lambda _: len(_again(car, mark, first, last)) > last - first,
        since=mark, within_s=min(5.0, car.inputs.answer_s),
    )  # fmt: skip
    return _again(car, mark, first, last)


def _are_same(car: Car, came: dict[int, Seen], first: int, last: int) -> bool:
    return all(
        seq in came and came[seq].data == car.entries[seq].data
        for seq in range(first, last + 1)
    )


def _told(car: Car, came: dict[int, Seen]) -> str:
    changed = [seq for seq, seen in came.items() if seen.data != car.entries[seq].data]
    return f"entries {sorted(came)}, with other bytes {changed}"


@CAR_SUITE.check("has no more entries under way than its credit", "FF-RCP-14")
async def credit(trial: Trial, car: Car) -> None:
    """FF-RCP-14."""
    async with withheld(car, 1) as base:
        await car.receipt(base + 1, _hash(car, base + 1), credit=2)
        mark = car.wire.mark
        for _ in range(5):
            await car.send(car.order(car.ping()))
        await car.renew()
        await car.wire.quiet(2 * car.inputs.silence_s)
        came = _again(car, mark, base + 2, base + 100)
        trial.judge(
            "FF-RCP-14", len(came) <= 2,  # noqa: PLR2004 - the credit of above
            sent="RECEIPT with credit 2, then five PINGs",
            expected="two entries until the next receipt",
            came=f"entries {sorted(came)}",
        )  # fmt: skip
        if came:
            await car.receipt(base + 1, _hash(car, base + 1))
            await _come_again(car, mark, base + 2, base + 6)


@CAR_SUITE.check(
    "answers a CHALLENGE that is fresh, and no other",
    "FF-SYN-01", "FF-SYN-02", "FF-SYN-03", "FF-SYN-04", "FF-SYN-05", "FF-SYN-06",
    "FF-SYN-09",
)  # fmt: skip
async def challenges(trial: Trial, car: Car) -> None:
    """FF-SYN-01 to FF-SYN-06, FF-SYN-09."""
    nonce = secrets.token_bytes(16)
    said = await car.challenge(nonce)
    trial.judge(
        "FF-SYN-09", said is not None and said.header.session_id == car.session_id,
        sent="CHALLENGE", expected="HELLO of this session with its nonce",
        came=shown(said),
    )  # fmt: skip
    if said is None:
        raise NotReachedError(
            "a right CHALLENGE is not answered, so silence says nothing"
        )
    signer = car.commanders[0]
    tried: list[tuple[str, str, Order]] = []

    def add(
        clause: str, what: str, by: Signer | None = None, **changes: object
    ) -> None:
        order = car.sync(Challenge(secrets.token_bytes(16)), signer=by, **changes)
        tried.append((clause, what, order))

    add("FF-SYN-01", "of another session", session_id=secrets.token_bytes(16))
    add("FF-SYN-02", "that never was good", mono_ms=0)
    add("FF-SYN-02", "that has expired", mono_ms=max(0, car.clock_ms - 1_000))
    add("FF-SYN-02", "that lives 35 s", mono_ms=car.clock_ms + 35_000)
    add("FF-SYN-03", "with an old sequence", signer, seq=1)
    add("FF-SYN-06", "of schema 2", schema=2)
    add("FF-SYN-06", "of type 0x0477", type=0x0477)
    missing = []
    kinds: tuple[tuple[str, WantedGrant], ...] = (
        ("of role RECEIPT", lambda grant: grant.role is Role.RECEIPT),
        ("of role MONITOR", lambda grant: grant.role is Role.MONITOR),
        ("that may not sign CHALLENGE", lambda grant: grant.role.commands
         and SyncType.CHALLENGE not in grant.opcodes),
        ("without lane trust", lambda grant: grant.role.commands
         and SyncType.CHALLENGE in grant.opcodes and Lane.TRUST not in grant.lanes),
    )  # fmt: skip
    for what, wanted in kinds:
        by = next(
            (one for one in car.inputs.signers if one.grant is not None
             and one.key_id not in car.inputs.bundle.revoked and wanted(one.grant)),
            None,
        )  # fmt: skip
        if by is None:
            missing.append(what)
        else:
            add("FF-SYN-04", f"of a key {what}", by,
                mono_ms=car.clock_ms + 4_000)  # fmt: skip
    mark = car.wire.mark
    for _, _, order in tried:
        await car.send(order)
    await car.renew()
    await car.wire.quiet(car.inputs.silence_s)
    heard = car.all_said(mark)
    for clause, what, order in tried:
        came = [
            one for one in heard
            if isinstance(one.body, Hello) and one.body.nonce == order.draft.payload
        ]  # fmt: skip
        trial.judge(
            clause, not came, sent=f"CHALLENGE {what}",
            expected="silence, while a right one behind it is answered",
            came=shown(came[0]) if came else "silence",
        )  # fmt: skip
    if missing:
        trial.not_reached("FF-SYN-04", f"no key was given {', '.join(missing)}")
    ids = {order.msg_id for _, _, order in tried}
    results = [
        one for one in car.all_said()
        if isinstance(one.body, Result) and one.body.request_id in ids
    ]  # fmt: skip
    trial.judge(
        "FF-SYN-05", not results, sent=f"{len(tried)} SYNC frames",
        expected="no RESULT", came=shown(results[0]) if results else "none",
    )  # fmt: skip


@CAR_SUITE.check(
    "takes the fleet's time of this session, and never goes back",
    "FF-TIM-01", "FF-TIM-03", "FF-TIM-04",
)  # fmt: skip
async def fleet_time(trial: Trial, car: Car) -> None:
    """FF-TIM-01, FF-TIM-03, FF-TIM-04."""
    told = FleetTime(ClockQuality.NTP)
    now_ms = car.inputs.now_ms()
    await car.send(car.sync(told))
    floor_ms = (await car.renew()).trusted_floor_ms
    trial.judge(
        "FF-TIM-04", abs(floor_ms - now_ms) < NEAR_MS,
        sent=f"TIME {now_ms}", expected="a hello with a floor near that",
        came=str(floor_ms),
    )  # fmt: skip
    await car.send(
        car.sync(told, session_id=secrets.token_bytes(16), wall_ms=now_ms + YEAR_MS)
    )
    floor_ms = (await car.renew()).trusted_floor_ms
    trial.judge(
        "FF-TIM-01", floor_ms < now_ms + YEAR_MS // 2,
        sent="TIME of another session, a year ahead", expected="the floor of before",
        came=str(floor_ms),
    )  # fmt: skip
    await car.send(
        car.sync(told, wall_ms=now_ms - YEAR_MS, mono_ms=car.clock_ms + SYNC_LIFE_MS)
    )
    later_ms = (await car.renew()).trusted_floor_ms
    trial.judge(
        "FF-TIM-03", later_ms >= floor_ms,
        sent="TIME of a year ago", expected=f"a floor not below {floor_ms}",
        came=str(later_ms),
    )  # fmt: skip
    await car.send(car.sync(told))
    await car.renew()
