"""Checks of a car: commands that are carried out, once, and how it says so."""

import secrets

from protocol.codes import CancelReason, Code, Executed, LockDefault, Opcode, RentalMode
from protocol.command import COMMANDS, CancelReservation, Reserve
from protocol.event import ReservationStarted
from protocol.hello import Hello
from protocol.result import Result
from tools.conformance.car_subject import (
    ANY_VERSION,
    CAR_SUITE,
    MARGIN_MS,
    Car,
    result_of,
    shown,
)
from tools.conformance.check import NotReachedError, Trial

RESERVED_MS = 600_000


def reserve(car: Car, rental_id: bytes, *, cards: int = 0) -> Reserve:
    """Return a RESERVE for ten minutes."""
    return Reserve(
        rental_id=rental_id,
        expected_version=ANY_VERSION,
        reserved_until_ms=car.clock_ms + RESERVED_MS,
        lock_default=LockDefault.END,
        language=b"en",
        cards=(bytes(16),) * cards,
        sealed=b"",
    )


def cancel(rental_id: bytes) -> CancelReservation:
    """Return a CANCEL_RESERVATION."""
    return CancelReservation(rental_id, ANY_VERSION, CancelReason.OPERATOR)


def code_of(result: Result | None) -> str:
    """Return how a command was answered, in a word."""
    return "no RESULT" if result is None else f"RESULT {result.code.name}"


async def require_free(car: Car) -> None:
    """Return if nobody reserved or rents the car.

    Raises:
        NotReachedError: somebody does.
    """
    hello = await car.renew()
    if hello.snapshot.mode is not RentalMode.AVAILABLE:
        raise NotReachedError(
            f"the car is {hello.snapshot.mode.name}: end the rental before the test"
        )


@CAR_SUITE.check(
    "refuses a command of another session, and says hello", "FF-FRE-09", "FF-FRE-10"
)
async def stale_session(trial: Trial, car: Car) -> None:
    """FF-FRE-09, FF-FRE-10."""
    session_id = car.session_id[:4] + secrets.token_bytes(12)
    order, said = await car.ask(car.ping(), session_id=session_id)
    result = result_of(said)
    trial.judge(
        "FF-FRE-09",
        result is not None
        and result.code is Code.SESSION_STALE
        and result.executed is Executed.MAYBE,
        sent="CMD PING of a session that never was",
        expected="RESULT SESSION_STALE, executed MAYBE",
        came=shown(said),
    )
    hello = await car.hear(lambda one: isinstance(one.body, Hello), since=order.mark)
    trial.judge(
        "FF-FRE-10",
        hello is not None,
        sent="CMD PING of a session that never was",
        expected="HELLO of the session of now",
        came=shown(hello),
    )


@CAR_SUITE.check("answers an accepted command by exactly one result", "FF-CMD-11")
async def one_result(trial: Trial, car: Car) -> None:
    """FF-CMD-11."""
    order, said = await car.ask(car.ping())
    await car.require_fence()
    results = {
        one.seen.data
        for one in car.all_said(order.mark)
        if isinstance(one.body, Result) and one.body.request_id == order.msg_id
    }
    result = result_of(said)
    trial.judge(
        "FF-CMD-11",
        len(results) == 1 and result is not None and result.code is Code.OK,
        sent="CMD PING",
        expected="one RESULT OK",
        came=f"{len(results)} different, first {shown(said)}",
    )


@CAR_SUITE.check(
    "executes the same bytes once and answers them by the stored result",
    "FF-FRE-06", "FF-FRE-08", "FF-CMD-08", "FF-RES-06", "FF-RES-07",
)  # fmt: skip
async def duplicates(trial: Trial, car: Car) -> None:
    """FF-FRE-06, FF-FRE-08, FF-CMD-08, FF-RES-06, FF-RES-07."""
    await require_free(car)
    before = car.greeting.snapshot
    rental_id = secrets.token_bytes(16)
    signer = car.speaker()
    order, said = await car.ask(reserve(car, rental_id), signer=signer)
    result = result_of(said)
    if said is None or result is None or result.code is not Code.OK:
        raise NotReachedError(f"RESERVE was not carried out: {code_of(result)}")
    after = result.snapshot
    trial.judge(
        "FF-RES-06",
        (after.mode, after.rental_id) == (RentalMode.RESERVED, rental_id),
        sent="CMD RESERVE",
        expected="a snapshot of the reserved car with that rental",
        came=f"{after.mode.name}, rental {after.rental_id.hex()}",
    )
    trial.judge(
        "FF-RES-07",
        after.state_version > before.state_version,
        sent="CMD RESERVE",
        expected=f"a state version above {before.state_version}",
        came=str(after.state_version),
    )
    _, reused = await car.ask(cancel(rental_id), signer=signer, msg_id=order.msg_id)
    reused = await car.hear(
        lambda one: isinstance(one.body, Result)
        and one.body.request_id == order.msg_id
        and one.seen.data != said.seen.data,
        since=order.mark, within_s=car.inputs.silence_s,
    )  # fmt: skip
    trial.judge(
        "FF-FRE-08",
        (found := result_of(reused)) is not None and found.code is Code.ID_REUSED,
        sent="CMD CANCEL_RESERVATION under the message id of the RESERVE",
        expected="RESULT ID_REUSED",
        came=shown(reused),
    )
    await car.ask(cancel(rental_id), signer=signer)
    mark = car.wire.mark
    await car.send(order)
    again = await car.answer(order, since=mark)
    await car.require_fence()
    trial.judge(
        "FF-FRE-06",
        again is not None and again.seen.data == said.seen.data,
        sent="the same RESERVE again, after it was cancelled",
        expected=f"the same RESULT bit by bit: {shown(said)}",
        came=shown(again),
    )
    started = [
        one.header.seq
        for one in car.all_said(order.mark)
        if isinstance(one.body, ReservationStarted) and one.body.rental_id == rental_id
    ]
    hello = await car.renew()
    trial.judge(
        "FF-CMD-08",
        len(set(started)) == 1 and hello.snapshot.mode is RentalMode.AVAILABLE,
        sent="the same RESERVE again, after it was cancelled",
        expected="one RESERVATION_STARTED, and the car stays free",
        came=f"entries {sorted(set(started))}, the car is {hello.snapshot.mode.name}",
    )
    if hello.snapshot.mode is RentalMode.RESERVED:
        await car.ask(cancel(rental_id))


@CAR_SUITE.check(
    "refuses what it does not name in its hello, and only that",
    "FF-CMD-03", "FF-HEL-04", "FF-CMD-05", "FF-FRE-11",
)  # fmt: skip
async def repertoire(trial: Trial, car: Car) -> None:
    """FF-CMD-03, FF-HEL-04, FF-CMD-05, FF-FRE-11."""
    named = {one.opcode for one in car.greeting.capabilities}
    wrong, unnamed, versions = [], [], []
    for opcode, rule in COMMANDS.items():
        payload = _sample(opcode, car)
        if payload is None:
            continue
        _, said = await car.ask(
            car.ping(), type=opcode, lane=rule.lane, payload=payload,
            mono_ms=car.clock_ms + rule.ttl_limit_ms - MARGIN_MS,
            seq=car.next_seq(signer := car.speaker(), rule.lane), signer=signer,
        )  # fmt: skip
        result = result_of(said)
        is_unknown = result is not None and result.code is Code.UNKNOWN_OPCODE
        if opcode not in named and not is_unknown:
            unnamed.append(f"{opcode.name}: {code_of(result)}")
        if (opcode in named) == is_unknown:
            wrong.append(f"{opcode.name}: {code_of(result)}")
        if opcode in {Opcode.PING, Opcode.RESERVE} and (
            result is None or result.code is not Code.STATE_VERSION
        ):
            versions.append(f"{opcode.name}: {code_of(result)}")
    trial.judge(
        "FF-HEL-04", not wrong,
        sent="a command of each opcode, for a state version that is not the car's",
        expected="UNKNOWN_OPCODE for those that the hello does not name, else not",
        came=", ".join(wrong) or "as the hello says",
    )  # fmt: skip
    trial.judge(
        "FF-CMD-03", not unnamed,
        sent="a command of each opcode that the hello does not name",
        expected="RESULT UNKNOWN_OPCODE", came=", ".join(unnamed) or "that",
    )  # fmt: skip
    trial.judge(
        "FF-CMD-05", not versions,
        sent="PING and RESERVE with another state version than the car's",
        expected="RESULT STATE_VERSION", came=", ".join(versions) or "that",
    )  # fmt: skip
    _, said = await car.ask(car.ping(), type=0x0777)
    result = result_of(said)
    trial.judge(
        "FF-FRE-11", result is not None and result.code is Code.UNKNOWN_OPCODE,
        sent="a command of opcode 0x0777", expected="RESULT UNKNOWN_OPCODE",
        came=shown(said),
    )  # fmt: skip


def _sample(opcode: Opcode, car: Car) -> bytes | None:
    """Return a payload that this car must refuse for its state version."""
    version = car.greeting.snapshot.state_version + 1_000_000
    head = bytes(16) + version.to_bytes(4, "big")
    match opcode:
        case Opcode.PING:
            return head + secrets.token_bytes(16)
        case Opcode.RESERVE:
            until = (car.clock_ms + RESERVED_MS).to_bytes(8, "big")
            rental = secrets.token_bytes(16) + version.to_bytes(4, "big")
            return rental + until + b"\0en\0\0\0"
        case Opcode.LOCK | Opcode.LOCK_AND_DISABLE | Opcode.SET_DEFAULT_MODE:
            return head + bytes(4)
        case (
            Opcode.UNLOCK | Opcode.UNLOCK_AND_ENABLE | Opcode.REBOOT | Opcode.SNAPSHOT
            | Opcode.ROTATE_KEY
        ):  # fmt: skip
            return head
        case (
            Opcode.ENGINE_RELEASE | Opcode.ENGINE_HOLD | Opcode.CANCEL_RESERVATION
            | Opcode.SET_MODE | Opcode.FLASH_HAZARDS | Opcode.RESTART
        ):  # fmt: skip
            return head + b"\x01\0\0\0"
        case _:
            # Longer payloads; no car refuses them for their state alone.
            return None
