"""Checks of a car: what gets no answer, judged behind a right command that gets one."""

import secrets
from dataclasses import dataclass
from typing import Final

from protocol.codes import Code, FrameClass, Suite
from protocol.identity import VehicleId
from protocol.keys import Ed25519SigningKey
from protocol.result import Result
from protocol.signing import request_hash
from protocol.sync import Challenge
from tools.conformance.car_frames import Draft, flipped
from tools.conformance.car_inputs import Signer
from tools.conformance.car_subject import CAR_SUITE, Car, Order, result_of, shown
from tools.conformance.check import Trial

SILENT: Final = (
    "FF-AUTH-02", "FF-AUTH-04", "FF-AUTH-05", "FF-AUTH-06", "FF-AUTH-08", "FF-AUTH-09",
    "FF-AUTH-10", "FF-FRM-07", "FF-FRM-08", "FF-FRM-09", "FF-FRM-10", "FF-FRM-11",
    "FF-FRM-12", "FF-FRM-14", "FF-FRM-15", "FF-FRM-17", "FF-SIG-03", "FF-SIG-04",
    "FF-SIG-05", "FF-SIG-06", "FF-SIG-07", "FF-SIG-09",
)  # fmt: skip

FLIPPED: Final = (
    # One bit of each field that FF-FRM-07 to FF-FRM-15 do not judge, then of payload
    # and signature: lane and schema, key, session, sequence, dates, message id, ...
    55, 64, 79, 230, 290, 417, 479, 481, 543, 550, 607, 615, 735, 740, 863, 880, 1023,
    1024, 1150, 1279, 1280, 1400, 1535,
)  # fmt: skip

GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519 (RFC 8032, 5.1)."""


@dataclass(frozen=True, slots=True)
class Forgery:
    """A frame that gets no answer."""

    clauses: tuple[str, ...]
    what: str
    data: bytes
    msg_id: bytes
    topic: FrameClass = FrameClass.CMD


def _forgeries(car: Car) -> list[Forgery]:  # noqa: C901, PLR0915 - a list, one line for each
    """Return what is tried: each good but for what its sentence says."""
    found: list[Forgery] = []
    signer = car.commanders[0]
    inputs = car.inputs

    def good(**changes: object) -> Draft:
        return car.order(car.ping(), signer=signer, seq=2**40).draft.with_(**changes)

    def add(
        clauses: str,
        what: str,
        draft: Draft,
        data: bytes | None = None,
        topic: FrameClass = FrameClass.CMD,
    ) -> None:
        signed = draft.signed(signer.key, fleet_id=inputs.fleet_id)
        found.append(
            Forgery(
                tuple(clauses.split()), what,
                signed if data is None else data, draft.msg_id, topic,
            )
        )  # fmt: skip

    stranger = Ed25519SigningKey.generate()
    draft = good(key_id=stranger.key_id)
    add("FF-AUTH-08", "of a key that no bundle names", draft,
        draft.signed(stranger, fleet_id=inputs.fleet_id))  # fmt: skip
    draft = good()
    add("FF-AUTH-10", "signed by another key than it names", draft,
        draft.signed(stranger, fleet_id=inputs.fleet_id))  # fmt: skip
    if len(car.commanders) > 1:
        draft = good()
        add("FF-SIG-06", "of one key of the bundle, signed by another", draft,
            draft.signed(car.commanders[1].key, fleet_id=inputs.fleet_id))  # fmt: skip
    add("FF-AUTH-05", "for another vehicle", good(vehicle_id=secrets.token_bytes(16)))
    for topic in (FrameClass.RECEIPT, FrameClass.SYNC, FrameClass.TRUST):
        add("FF-AUTH-04", f"on topic down/{topic.label}", good(), topic=topic)
    add("FF-AUTH-04", "of class result", good(frame_class=FrameClass.RESULT))
    if Suite.P256 not in inputs.bundle.suites:
        add("FF-AUTH-06 FF-SIG-05", "of suite 2, which the bundle does not list",
            good(suite=2))  # fmt: skip
    else:
        add("FF-SIG-05", "of suite 2 and a key of suite 1", good(suite=2))
    for one in inputs.signers:
        if one.key_id in inputs.bundle.revoked:
            draft = good(key_id=one.key_id)
            add("FF-AUTH-09", "of a key that the bundle revokes", draft,
                draft.signed(one.key, fleet_id=inputs.fleet_id))  # fmt: skip
    draft = good()
    add("FF-SIG-03", "for another fleet", draft,
        draft.signed(signer.key, fleet_id=secrets.token_bytes(16)))  # fmt: skip
    draft = good()
    add("FF-SIG-04", "signed under the label of SYNC", draft,
        draft.signed(signer.key, fleet_id=inputs.fleet_id, label="sync"))  # fmt: skip
    if signer.key.suite == 1:
        draft = good()
        data = draft.signed(signer.key, fleet_id=inputs.fleet_id)
        s = int.from_bytes(data[-32:], "little") + GROUP_ORDER
        add("FF-SIG-09", "whose S is not below the order", draft,
            data[:-32] + s.to_bytes(32, "little"))  # fmt: skip
    add("FF-FRM-08", "with magic FG", good(magic=b"FG"))
    add("FF-FRM-09", "of version 2", good(version=2))
    add("FF-FRM-10", "of suite 9", good(suite=9))
    add("FF-FRM-11", "of class 0x09", good(frame_class=9))
    add("FF-FRM-12", "with critical flag 0x10", good(flags=0x10))
    add("FF-FRM-14", "with a payload length that is not its own", good(length=35))
    add("FF-FRM-15", "of 1025 bytes", good(payload=bytes(869)))
    add("FF-FRM-07", "of 4097 bytes", good(payload=bytes(3941)))
    draft = good()
    add("FF-FRM-07", "cut to 155 bytes", draft,
        draft.signed(signer.key, fleet_id=inputs.fleet_id)[:155])  # fmt: skip
    for size in (0, 1, 156, 400):
        add("FF-FRM-17", f"of {size} random bytes", good(), secrets.token_bytes(size))
    add("FF-FRM-17", "of 4096 bytes of 0x46", good(), b"\x46" * 4096)
    for bit in FLIPPED:
        draft = good()
        data = draft.signed(signer.key, fleet_id=inputs.fleet_id)
        add("FF-SIG-07", f"with bit {bit} changed", draft, flipped(data, bit))
    draft = good()
    data = draft.signed(signer.key, fleet_id=inputs.fleet_id)
    add("FF-SIG-07", "without its last byte", draft, data[:-1])
    add("FF-SIG-07", "with a byte behind it", draft, data + b"\0")
    return found


@CAR_SUITE.check("does not answer what fails before or at the signature", *SILENT)
async def silence(trial: Trial, car: Car) -> None:
    """FF-AUTH-02 and the clauses of each forgery."""
    await car.require_fence()
    forgeries = _forgeries(car)
    mark = car.wire.mark
    for one in forgeries:
        await car.put(one.topic, one.data)
    has_answered = await car.fence()
    results = [said for said in car.all_said(mark) if isinstance(said.body, Result)]
    answered: list[str] = []
    for one in forgeries:
        names = {one.msg_id, request_hash(one.data)}
        came = [
            said
            for said in results
            if isinstance(said.body, Result)
            and {said.body.request_id, said.body.request_hash} & names
        ]
        if came:
            answered.append(one.what)
        for clause in one.clauses:
            trial.judge(
                clause, not came,
                sent=f"CMD PING {one.what}",
                expected="silence, while a right PING behind it is answered",
                came=shown(came[0]) if came else "silence",
            )  # fmt: skip
    trial.judge(
        "FF-FRM-17", has_answered,
        sent="all of that, then a right PING", expected="RESULT OK",
        came="that" if has_answered else "no RESULT",
    )  # fmt: skip
    trial.judge(
        "FF-AUTH-02", not answered,
        sent=f"{len(forgeries)} forged frames", expected="silence",
        came=f"answers to PING {'; '.join(answered)}" if answered else "silence",
    )  # fmt: skip
    if Suite.P256 in car.inputs.bundle.suites:
        trial.not_applicable("FF-AUTH-06", "the bundle lists every suite")
    if len(car.commanders) == 1:
        trial.not_reached("FF-SIG-06", "one more key that may sign commands is needed")
    if not any(one.key_id in car.inputs.bundle.revoked for one in car.inputs.signers):
        trial.not_reached("FF-AUTH-09", "no key was given that the bundle revokes")


@CAR_SUITE.check("bounds its answers to refusals", "FF-CMD-15", limit_s=60)
async def answer_bound(trial: Trial, car: Car) -> None:
    """FF-CMD-15."""
    signer = car.speaker()
    await car.ask(car.ping(), signer=signer)
    orders: list[Order] = [
        car.order(car.ping(), signer=signer, seq=1) for _ in range(30)
    ]
    mark = car.wire.mark
    for order in orders:
        await car.put(FrameClass.CMD, order.data)
    await car.wire.quiet(car.inputs.silence_s)
    wanted = {order.msg_id for order in orders}
    came = {
        result.request_id
        for said in car.all_said(mark)
        if (result := result_of(said)) is not None and result.code is Code.SUPERSEDED
    } & wanted
    trial.judge(
        "FF-CMD-15", len(came) < len(orders),
        sent=f"{len(orders)} PINGs with old sequences of one key",
        expected="fewer answers than that", came=f"{len(came)} answers",
    )  # fmt: skip
    # The key's own allowance is spent; the car earns one answer a second.
    await car.wire.quiet(len(came) and 2.0)


@CAR_SUITE.check("does as little for forged SYNC frames", "FF-AUTH-12")
async def forged_sync(trial: Trial, car: Car) -> None:
    """FF-AUTH-12."""
    nonces = []
    stranger = Signer(Ed25519SigningKey.generate(), None)
    for signer in (stranger, car.commanders[0]):
        nonce = secrets.token_bytes(16)
        order = car.sync(Challenge(nonce), signer=signer, seq=2**40)
        data = order.data if signer is stranger else flipped(order.data, 300)
        nonces.append(nonce)
        await car.put(FrameClass.SYNC, data)
    await car.put(
        FrameClass.SYNC, car.sync(Challenge(nonces[0]), vehicle_id=bytes(16)).data,
        vehicle_id=VehicleId(car.inputs.vehicle_id.raw),
    )  # fmt: skip
    mark = car.wire.mark
    await car.require_fence()
    await car.renew()
    came = [
        said
        for said in car.all_said(mark)
        if getattr(said.body, "nonce", None) in nonces
    ]
    trial.judge(
        "FF-AUTH-12", not came,
        sent="CHALLENGE of an unknown key, with a changed bit, for another vehicle",
        expected="no hello with its nonce, while a right one is answered",
        came=shown(came[0]) if came else "that",
    )  # fmt: skip
