"""Checks of a car: authentic commands that it must refuse, with the right code."""

import secrets
from collections.abc import Callable

from protocol.codes import Code, Lane, Opcode, RentalMode, Role
from protocol.command import COMMANDS, Reserve
from tools.conformance.car_commands import cancel, code_of, require_free, reserve
from tools.conformance.car_inputs import Signer
from tools.conformance.car_subject import CAR_SUITE, MARGIN_MS, Car, result_of, shown
from tools.conformance.check import NotReachedError, Trial

SHORT_MS = 5_000
"""The life of a key that may sign for less than the cap of PING."""

TOO_LONG_MS = 5_000
"""Beyond a cap; the car's clock is known to a second."""


async def refused(
    trial: Trial,
    car: Car,
    clause: str,
    what: str,
    *codes: Code,
    signer: Signer | None = None,
    **changes: object,
) -> None:
    """Send a PING with other fields and judge the code of its refusal."""
    _, said = await car.ask(car.ping(), signer=signer, **changes)
    result = result_of(said)
    trial.judge(
        clause,
        result is not None and result.code in codes,
        sent=f"CMD PING {what}",
        expected=f"RESULT {' or '.join(code.name for code in codes)}",
        came=shown(said),
    )


@CAR_SUITE.check("refuses a command that is not fresh", "FF-FRE-19", "FF-FRE-20")
async def freshness(trial: Trial, car: Car) -> None:
    """FF-FRE-19, FF-FRE-20."""
    expired = Code.EXPIRED
    await refused(trial, car, "FF-FRE-19", "that never was good", expired, mono_ms=0)
    await refused(
        trial, car, "FF-FRE-19", "that ended a second ago", expired,
        mono_ms=max(0, car.clock_ms - 1_000),
    )  # fmt: skip
    cap = COMMANDS[Opcode.PING].ttl_limit_ms
    await refused(
        trial, car, "FF-FRE-20", "beyond the opcode's cap", Code.TTL_TOO_LONG,
        mono_ms=car.clock_ms + cap + TOO_LONG_MS,
    )  # fmt: skip


@CAR_SUITE.check("keeps to the cap of each opcode", "FF-LIM-02")
async def caps(trial: Trial, car: Car) -> None:
    """FF-LIM-02."""
    wrong = []
    named = {one.opcode for one in car.greeting.capabilities}
    for opcode, rule in COMMANDS.items():
        if opcode not in named:
            continue
        signer = car.speaker()
        _, said = await car.ask(
            car.ping(), signer=signer, type=opcode, lane=rule.lane,
            seq=car.next_seq(signer, rule.lane),
            mono_ms=car.clock_ms + rule.ttl_limit_ms + TOO_LONG_MS,
        )  # fmt: skip
        result = result_of(said)
        if result is None or result.code is not Code.TTL_TOO_LONG:
            wrong.append(f"{opcode.name}: {code_of(result)}")
    trial.judge(
        "FF-LIM-02", not wrong,
        sent="a command of each opcode that lives 5 s longer than its cap",
        expected="RESULT TTL_TOO_LONG", came=", ".join(wrong) or "that",
    )  # fmt: skip


@CAR_SUITE.check(
    "refuses a payload that is not the one encoding",
    "FF-CMD-01", "FF-FRM-02", "FF-FRM-03", "FF-FRM-06", "FF-FRM-18",
)  # fmt: skip
async def encodings(trial: Trial, car: Car) -> None:
    """FF-CMD-01, FF-FRM-02, FF-FRM-03, FF-FRM-06, FF-FRM-18."""
    await refused(
        trial, car, "FF-CMD-01", "of schema 2", Code.UNSUPPORTED_SCHEMA, schema=2
    )
    bad = (Code.NON_CANONICAL, Code.BAD_PARAM)
    payload = bytes(16) + b"\xff" * 4 + secrets.token_bytes(16)
    await refused(
        trial, car, "FF-FRM-03", "with a byte behind it", *bad, payload=payload + b"\0"
    )
    await refused(
        trial, car, "FF-FRM-03", "without its last byte", *bad, payload=payload[:-1]
    )
    head = bytes(16) + b"\xff" * 4
    lock = Opcode.LOCK
    for clause, what, fields in (
        ("FF-FRM-02", "with a reserved byte set", b"\0\0\1\0"),
        ("FF-FRM-18", "with a lock mode of 9", b"\x09\0\0\0"),
    ):
        signer = car.speaker()
        _, said = await car.ask(
            car.ping(), signer=signer, type=lock, lane=Lane.ACCESS,
            seq=car.next_seq(signer, Lane.ACCESS), payload=head + fields,
        )  # fmt: skip
        result = result_of(said)
        trial.judge(
            clause, result is not None and result.code in bad,
            sent=f"CMD LOCK {what}", expected="RESULT NON_CANONICAL or BAD_PARAM",
            came=shown(said),
        )  # fmt: skip
    signer = car.speaker()
    until = (car.clock_ms + 60_000).to_bytes(8, "big")
    _, said = await car.ask(
        car.ping(), signer=signer, type=Opcode.RESERVE, lane=Lane.RENTAL,
        seq=car.next_seq(signer, Lane.RENTAL),
        payload=secrets.token_bytes(16) + b"\xff" * 4 + until + b"\0en\5"
        + bytes(80) + b"\0\0",
    )  # fmt: skip
    result = result_of(said)
    trial.judge(
        "FF-FRM-06", result is not None and result.code is Code.BAD_PARAM,
        sent="CMD RESERVE with five cards", expected="RESULT BAD_PARAM",
        came=shown(said),
    )  # fmt: skip


@CAR_SUITE.check("takes a frame with an advisory flag that it does not know",
                 "FF-FRM-13")  # fmt: skip
async def advisory(trial: Trial, car: Car) -> None:
    """FF-FRM-13."""
    await refused(trial, car, "FF-FRM-13", "with flag 0x08", Code.OK, flags=0x08)


@CAR_SUITE.check("judges no frame by its wall clock", "FF-TIM-06")
async def wall_clock(trial: Trial, car: Car) -> None:
    """FF-TIM-06."""
    for wall_ms in (0, 2**63):
        await refused(
            trial, car, "FF-TIM-06", f"with wall_ms {wall_ms}", Code.OK, wall_ms=wall_ms
        )


@CAR_SUITE.check(
    "keeps the order of each key and lane",
    "FF-FRE-17", "FF-FRE-22", "FF-FRE-23", "FF-FRE-24",
)  # fmt: skip
async def order_in_lane(trial: Trial, car: Car) -> None:
    """FF-FRE-17, FF-FRE-22, FF-FRE-23, FF-FRE-24."""
    await refused(
        trial, car, "FF-FRE-17", "in lane 3", Code.BAD_PARAM, lane=Lane.SIGNALS
    )
    signer = car.speaker()
    last = max(car.next_seq(signer, Lane.DIAGNOSTICS) for _ in range(5))
    for clause, what, seq, code in (
        ("FF-FRE-22", "with a sequence that leaves out some", last, Code.OK),
        ("FF-FRE-22", "with the same sequence", last, Code.SUPERSEDED),
        ("FF-FRE-22", "with a lower sequence", last - 1, Code.SUPERSEDED),
        ("FF-FRE-24", "with a sequence between", last - 2, Code.SUPERSEDED),
    ):
        await refused(trial, car, clause, what, code, signer=signer, seq=seq)
    _, said = await car.ask(cancel(bytes(16)), signer=signer)
    result = result_of(said)
    trial.judge(
        "FF-FRE-23", result is not None and result.code is not Code.SUPERSEDED,
        sent="a command of the same key in another lane, with a lower sequence",
        expected="anything but SUPERSEDED", came=shown(said),
    )  # fmt: skip


@CAR_SUITE.check(
    "never carries out what it refused, and refuses it alike",
    "FF-FRE-25", "FF-FRE-26", "FF-CMD-04",
)  # fmt: skip
async def refused_for_good(trial: Trial, car: Car) -> None:
    """FF-FRE-25, FF-FRE-26, FF-CMD-04."""
    await require_free(car)
    signer = car.speaker()
    kept, other = secrets.token_bytes(16), secrets.token_bytes(16)
    _, said = await car.ask(reserve(car, kept), signer=signer)
    if (result := result_of(said)) is None or result.code is not Code.OK:
        raise NotReachedError(f"RESERVE was not carried out: {code_of(result)}")
    _, said = await car.ask(cancel(other), signer=signer)
    result = result_of(said)
    trial.judge(
        "FF-CMD-04", result is not None and result.code is Code.WRONG_RENTAL,
        sent="CMD CANCEL_RESERVATION of another rental", expected="RESULT WRONG_RENTAL",
        came=shown(said),
    )  # fmt: skip
    wish: Reserve = reserve(car, other)
    order, said = await car.ask(wish, signer=signer)
    before = result_of(said)
    await car.ask(cancel(kept), signer=signer)
    mark = car.wire.mark
    await car.send(order)
    later = result_of(await car.answer(order, since=mark))
    trial.judge(
        "FF-FRE-26",
        before is not None and later is not None and before.code is later.code,
        sent="a RESERVE of a reserved car, and the same bytes when it was free",
        expected=f"again {code_of(before)}", came=code_of(later),
    )  # fmt: skip
    hello = await car.renew()
    trial.judge(
        "FF-FRE-25", hello.snapshot.mode is RentalMode.AVAILABLE,
        sent="a RESERVE of a reserved car, and the same bytes when it was free",
        expected="the car stays free", came=f"the car is {hello.snapshot.mode.name}",
    )  # fmt: skip
    if hello.snapshot.mode is RentalMode.RESERVED:
        await car.ask(cancel(other))


@CAR_SUITE.check("makes its checks in the order of the specification", "FF-AUTH-01")
async def order_of_checks(trial: Trial, car: Car) -> None:
    """FF-AUTH-01."""
    stale = secrets.token_bytes(16)
    cap = COMMANDS[Opcode.PING].ttl_limit_ms
    signer = car.speaker()
    known, _ = await car.ask(car.ping(), signer=signer)
    for what, code, changes in (
        ("of another session and of opcode 0x0777", Code.SESSION_STALE,
         {"session_id": stale, "type": 0x0777}),
        ("of opcode 0x0777 that has expired", Code.UNKNOWN_OPCODE,
         {"type": 0x0777, "mono_ms": 0}),
        ("in lane 3 that has expired", Code.BAD_PARAM, {"lane": 3, "mono_ms": 0}),
        ("that has expired with an old sequence", Code.EXPIRED,
         {"seq": 1, "mono_ms": 0}),
        ("that lives too long in schema 9", Code.TTL_TOO_LONG,
         # Made now and sent some answers later: long enough by far.
         {"schema": 9, "mono_ms": car.clock_ms + cap + 60_000}),
        ("with an old sequence in schema 9", Code.SUPERSEDED,
         {"schema": 9, "seq": known.draft.seq}),
    ):  # fmt: skip
        await refused(trial, car, "FF-AUTH-01", what, code, signer=signer, **changes)


Wanted = Callable[[Car, Signer], bool]


def _signer(car: Car, wanted: Wanted, missing: str) -> Signer:
    for one in car.inputs.signers:
        is_named = one.grant is not None
        if (
            is_named
            and one.key_id not in car.inputs.bundle.revoked
            and wanted(car, one)
        ):
            return one
    raise NotReachedError(f"no key was given that {missing}")


async def _limited(
    trial: Trial, car: Car, clause: str, what: str, code: Code, wanted: Wanted
) -> None:
    try:
        signer = _signer(car, wanted, what)
    except NotReachedError as error:
        trial.not_reached(clause, str(error))
        return
    cap = COMMANDS[Opcode.PING].ttl_limit_ms
    await refused(
        trial, car, clause, f"of a key that {what}", code, signer=signer,
        mono_ms=car.clock_ms + cap - MARGIN_MS,
    )  # fmt: skip


@CAR_SUITE.check(
    "holds each key to its role, dates, group, opcodes, lanes and life",
    "FF-FRE-13", "FF-FRE-14", "FF-FRE-15", "FF-FRE-16", "FF-FRE-18", "FF-FRE-20",
)  # fmt: skip
async def grants(trial: Trial, car: Car) -> None:
    """FF-FRE-13 to FF-FRE-16, FF-FRE-18, FF-FRE-20."""
    group, ping = car.greeting.group, Opcode.PING

    def usual(one: Signer) -> bool:
        grant = one.grant
        return (
            grant is not None and grant.role.commands and ping in grant.opcodes
            and Lane.DIAGNOSTICS in grant.lanes and grant.group in {0, group}
        )  # fmt: skip

    rules: tuple[tuple[str, str, Code, Wanted], ...] = (
        ("FF-FRE-13", "has role MONITOR", Code.ROLE_FORBIDDEN,
         lambda _, one: one.grant is not None and one.grant.role is Role.MONITOR),
        ("FF-FRE-14", "is out of its dates", Code.KEY_EXPIRED,
         lambda car, one: usual(one) and one.grant is not None
         and not car.inputs.is_current(one.grant)),
        ("FF-FRE-15", "is of another group", Code.GROUP_MISMATCH,
         lambda _, one: one.grant is not None and one.grant.role.commands
         and one.grant.group not in {0, group}),
        ("FF-FRE-16", "may not sign PING", Code.OPCODE_FORBIDDEN,
         lambda _, one: one.grant is not None and one.grant.role.commands
         and ping not in one.grant.opcodes),
        ("FF-FRE-18", "may not use lane 4", Code.OPCODE_FORBIDDEN,
         lambda _, one: one.grant is not None and one.grant.role.commands
         and ping in one.grant.opcodes and Lane.DIAGNOSTICS not in one.grant.lanes),
        ("FF-FRE-20", "may sign for 5 s at most", Code.TTL_TOO_LONG,
         lambda _, one: usual(one) and one.grant is not None
         and one.grant.max_ttl_ms <= SHORT_MS),
    )  # fmt: skip
    for clause, what, code, wanted in rules:
        await _limited(trial, car, clause, what, code, wanted)
