"""Checks of a car: trust bundles that it must not take, and one that it must."""

from protocol.codes import FrameClass, FrameType, Role
from protocol.hello import Hello
from protocol.trust import SIGNED_BUNDLE, RootSignature, SignedBundle
from protocol.vehicle_event import TrustChanged
from tools.conformance.car_frames import Draft
from tools.conformance.car_inputs import Signer, read_bundle
from tools.conformance.car_subject import CAR_SUITE, Car, shown
from tools.conformance.check import NotReachedError, Trial


def _trust(car: Car, bundle: bytes, signer: Signer) -> bytes:
    draft = Draft(
        frame_class=FrameClass.TRUST,
        type=FrameType.TRUST,
        payload=bundle,
        vehicle_id=car.inputs.vehicle_id.raw,
        key_id=signer.key_id,
        session_id=car.session_id,
        seq=1,
        mono_ms=car.clock_ms,
        wall_ms=car.inputs.now_ms(),
        msg_id=bytes(16),
        suite=signer.key.suite,
    )
    return car.made(draft, signer).data


def _with(data: bytes, *signatures: RootSignature) -> bytes:
    return SIGNED_BUNDLE.build(SignedBundle(SIGNED_BUNDLE.parse(data).body, signatures))


@CAR_SUITE.check(
    "keeps its bundle where another must not be taken",
    "FF-TRU-01", "FF-TRU-03", "FF-TRU-07", "FF-TRU-08", "FF-TRU-23",
)  # fmt: skip
async def refused_bundles(trial: Trial, car: Car) -> None:
    """FF-TRU-01, FF-TRU-03, FF-TRU-07, FF-TRU-08, FF-TRU-23."""
    inputs = car.inputs
    tried = [("FF-TRU-08", "the bundle in use", inputs.bundle_data)]
    if inputs.older_bundle:
        tried.append(("FF-TRU-07", "an older bundle", inputs.older_bundle))
    else:
        trial.not_reached("FF-TRU-07", "give one by --older-bundle")
    if inputs.newer_bundle:
        one, *others = SIGNED_BUNDLE.parse(inputs.newer_bundle).signatures
        wrong = RootSignature(one.root_key_id, bytes(64))
        newer = inputs.newer_bundle
        tried += [
            ("FF-TRU-01", "a newer bundle that one root signed", _with(newer, one)),
            ("FF-TRU-01", "one that a root signed twice", _with(newer, one, one)),
            ("FF-TRU-03", "one with a wrong signature", _with(newer, wrong, *others)),
        ]
    else:
        trial.not_reached("FF-TRU-01", "give one by --newer-bundle")
        trial.not_reached("FF-TRU-03", "give one by --newer-bundle")
    mark = car.wire.mark
    session_id, version = car.session_id, car.greeting.bundle_version
    for clause, what, bundle in tried:
        await car.put(FrameClass.TRUST, _trust(car, bundle, car.commanders[0]))
        mark_one = car.wire.mark
        hello = await car.renew()
        changed = [
            said for said in car.all_said(mark_one)
            if isinstance(said.body, TrustChanged)
        ]  # fmt: skip
        trial.judge(
            clause,
            (hello.bundle_version, car.session_id) == (version, session_id)
            and not changed,
            sent=f"TRUST with {what}",
            expected=f"bundle {version} and the same session",
            came=f"bundle {hello.bundle_version}, "
            f"{'the same' if car.session_id == session_id else 'another'} session",
        )  # fmt: skip
    answers = [
        said for said in car.all_said(mark)
        if said.header.frame_class is FrameClass.RESULT
        and said.header.msg_id == bytes(16)
    ]  # fmt: skip
    trial.judge(
        "FF-TRU-23", not answers, sent=f"{len(tried)} TRUST frames",
        expected="no answer", came=shown(answers[0]) if answers else "none",
    )  # fmt: skip


@CAR_SUITE.check(
    "takes a newer bundle, and begins anew by it",
    "FF-TRU-15", "FF-TRU-16", "FF-TRU-17", "FF-TRU-20", "FF-TRU-22",
)  # fmt: skip
async def newer_bundle(trial: Trial, car: Car) -> None:
    """FF-TRU-15, FF-TRU-16, FF-TRU-17, FF-TRU-20, FF-TRU-22."""
    inputs = car.inputs
    if not inputs.newer_bundle:
        raise NotReachedError("give one by --newer-bundle")
    newer = read_bundle(inputs.newer_bundle, inputs.fleet_id)
    if newer.version <= car.greeting.bundle_version:
        raise NotReachedError(f"the car has bundle {newer.version} or a newer one")
    monitor = next(
        (one for one in inputs.signers
         if one.grant is not None and one.grant.role is Role.MONITOR), None,
    )  # fmt: skip
    carrier = monitor or car.commanders[0]
    before = car.session_id
    mark = car.wire.mark
    await car.put(FrameClass.TRUST, _trust(car, inputs.newer_bundle, carrier))
    said = await car.hear(
        lambda one: (
            isinstance(one.body, Hello) and one.body.bundle_version == newer.version
        ),
        since=mark,
    )
    trial.judge(
        "FF-TRU-16", said is not None and said.header.session_id != before,
        sent=f"TRUST with bundle {newer.version}", expected="HELLO of a new session",
        came=shown(said),
    )  # fmt: skip
    if monitor is None:
        trial.not_reached("FF-TRU-22", "no key of role MONITOR was given")
    else:
        trial.judge(
            "FF-TRU-22", said is not None,
            sent=f"TRUST with bundle {newer.version}, signed by a key of role MONITOR",
            expected="it is taken", came=shown(said),
        )  # fmt: skip
    if said is None:
        raise NotReachedError("the newer bundle was not taken")
    event = await car.hear(lambda one: isinstance(one.body, TrustChanged), since=mark)
    trial.judge(
        "FF-TRU-17", event is not None, sent=f"TRUST with bundle {newer.version}",
        expected="EVENT TRUST_CHANGED", came=shown(event),
    )  # fmt: skip
    gone = [
        one for one in car.commanders
        if newer.find(one.key_id) is None or one.key_id in newer.revoked
    ]  # fmt: skip
    car.commanders = [one for one in car.commanders if one not in gone]
    await car.require_fence()
    answered = []
    for one in gone:
        order = car.order(car.ping(), signer=one)
        await car.put(FrameClass.CMD, order.data)
        await car.require_fence()
        answered += [
            shown(heard) for heard in car.all_said(order.mark)
            if getattr(heard.body, "request_id", b"") == order.msg_id
        ]  # fmt: skip
    if gone:
        trial.judge(
            "FF-TRU-15", not answered,
            sent=f"PING of {len(gone)} keys that bundle {newer.version} took away",
            expected="silence", came=", ".join(answered) or "silence",
        )  # fmt: skip
    else:
        trial.not_reached(
            "FF-TRU-15", "the newer bundle takes no key away that was given"
        )
    unheard = []
    for one in car.commanders:
        _, pong = await car.ask(car.ping(), signer=one)
        if pong is None:
            unheard.append(one.key_id.hex())
    trial.judge(
        "FF-TRU-20", not unheard,
        sent=f"PING of each of {len(car.commanders)} keys that the bundle names",
        expected="a RESULT for each", came=f"none for {unheard}" if unheard else "that",
    )  # fmt: skip
