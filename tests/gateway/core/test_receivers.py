"""Every class at every receiver from every role, every role with every opcode (I-7).

The payloads are those of the published vectors, signed anew for this desk, so that each
frame would be good somewhere: what is refused is refused for where it came, or for who
signed it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from gateway.core.acceptance import Refused, judge, open_receipt
from gateway.core.authentication import Desk, Dropped
from gateway.core.events import CommandReceived
from gateway.core.synchronisation import SyncReceived, judge_sync
from gateway.core.trust_renewal import TrustInUse, judge_trust
from protocol.codes import Code, FrameClass, Lane, Opcode, Role
from protocol.command import COMMANDS
from protocol.frame import parse_frame
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.receipt import Receipt
from protocol.signing import sign_frame
from protocol.trust import sign_bundle
from tests.gateway.core.desk import BUNDLE, HEADER, NOW, FrontDesk, outcome, trusted
from tests.protocol.vector_file import ACCEPTED, frame_of
from tools.published_keys import CAR_A, FLEET_ID, ROOT_KEYS

ROLE_KEYS: Final = {
    role: Ed25519SigningKey.from_seed(bytes([0x40 + role]) * 32) for role in Role
}
CAR_KEY: Final = Ed25519SigningKey.from_seed(b"\x50" * 32)
"""Of the car itself: no trust bundle names it."""

SIGNERS: Final[dict[str, SigningKey]] = {
    **{role.name: key for role, key in ROLE_KEYS.items()},
    "the car itself": CAR_KEY,
}

SAMPLES: Final = {
    FrameClass.CMD: "cmd_unlock",
    FrameClass.RECEIPT: "receipt_plain",
    FrameClass.SYNC: "sync_challenge",
    FrameClass.TRUST: "trust_again",
    FrameClass.RESULT: "result_ok",
    FrameClass.EVENT: "event_rental_ended",
    FrameClass.TELEM: "telem_full",
    FrameClass.HELLO: "hello_full",
    FrameClass.DEATH: "death_lost",
}

COMMANDERS: Final = {Role.RENTAL, Role.OPERATIONS, Role.SERVICE}

TAKEN: Final = {
    FrameClass.CMD: COMMANDERS,
    FrameClass.SYNC: COMMANDERS,
    FrameClass.RECEIPT: {Role.RECEIPT},
    # Any key of the bundle may carry one: its own signatures decide (FF-TRU).
    FrameClass.TRUST: set(Role),
}
"""Whose frames each receiver of a car takes, of its own class."""

DESK: Final = FrontDesk(
    bundle=replace(
        BUNDLE,
        keys=tuple(
            sorted(
                (trusted(key, role) for role, key in ROLE_KEYS.items()),
                key=lambda each: each.public_key,
            )
        ),
    )
).desk

Receiver = Callable[[bytes, Desk], object]

RECEIVERS: Final[dict[FrameClass, Receiver]] = {
    FrameClass.CMD: lambda data, desk: judge(data, retained=False, desk=desk, now=NOW),
    FrameClass.RECEIPT: lambda data, desk: open_receipt(data, desk, now=NOW),
    FrameClass.SYNC: lambda data, desk: judge_sync(
        data, retained=False, desk=desk, now=NOW
    ),
    FrameClass.TRUST: lambda data, desk: judge_trust(data, desk, now=NOW),
}

GOOD: Final = {
    FrameClass.CMD: CommandReceived,
    FrameClass.RECEIPT: Receipt,
    FrameClass.SYNC: SyncReceived,
    FrameClass.TRUST: TrustInUse,
}


def sample(frame_class: FrameClass, key: SigningKey) -> bytes:
    """Sign the sample of a class for this desk."""
    header = parse_frame(frame_of(SAMPLES[frame_class])).header
    payload = parse_frame(frame_of(SAMPLES[frame_class])).payload
    if frame_class is FrameClass.TRUST:
        newer = replace(DESK.bundle, version=2)
        payload = sign_bundle(newer, tuple(root.key for root in ROOT_KEYS))
    return sign_frame(
        replace(
            HEADER,
            frame_class=frame_class,
            type=header.type,
            schema=header.schema,
            lane=header.lane,
            suite=key.suite,
            key_id=key.key_id,
            flags=0,
        ),
        payload,
        fleet_id=FLEET_ID,
        key=key,
    )


@pytest.mark.parametrize("signer", list(SIGNERS))
@pytest.mark.parametrize("receiver", list(RECEIVERS), ids=lambda c: c.label)
@pytest.mark.parametrize("frame_class", list(FrameClass), ids=lambda c: c.label)
def test_every_class_at_every_receiver_from_every_role(
    frame_class: FrameClass, receiver: FrameClass, signer: str
) -> None:
    # FF-AUTH-04, FF-FRE-13, FF-RCP-04.
    # I-7 (P): direction, class and role, each with each.
    key = SIGNERS[signer]

    judged = RECEIVERS[receiver](sample(frame_class, key), DESK)

    if frame_class is not receiver:
        assert isinstance(judged, Dropped)
        assert judged.code is Code.WRONG_DIRECTION
    elif key is CAR_KEY:
        assert isinstance(judged, Dropped)
        assert judged.code is Code.UNKNOWN_KEY
    elif Role[signer] in TAKEN[receiver]:
        assert isinstance(judged, GOOD[receiver])
    else:
        assert isinstance(judged, Dropped | Refused)
        assert judged.code is Code.ROLE_FORBIDDEN


def command_samples() -> dict[Opcode, str]:
    """Return the name of a vector for each opcode."""
    found: dict[Opcode, str] = {}
    for name in ACCEPTED:
        header = parse_frame(frame_of(name)).header
        if header.frame_class is FrameClass.CMD and name.startswith("cmd_"):
            found.setdefault(Opcode(header.type), name)
    return found


SAMPLE_OF: Final = command_samples()


def command(opcode: Opcode, key: SigningKey) -> bytes:
    """Sign the sample of an opcode for this desk."""
    frame = parse_frame(frame_of(SAMPLE_OF[opcode]))
    header = replace(
        HEADER,
        type=opcode,
        lane=COMMANDS[opcode].lane,
        schema=frame.header.schema,
        key_id=key.key_id,
    )
    return sign_frame(header, frame.payload, fleet_id=FLEET_ID, key=key)


def test_every_opcode_has_a_sample() -> None:
    assert SAMPLE_OF.keys() == set(Opcode)


@pytest.mark.parametrize("opcode", list(Opcode), ids=lambda o: o.name)
@pytest.mark.parametrize("role", list(Role), ids=lambda r: r.name)
def test_every_opcode_is_for_roles_that_command(role: Role, opcode: Opcode) -> None:
    # FF-FRE-13.
    # I-7: role by opcode.
    judged = judge(command(opcode, ROLE_KEYS[role]), retained=False, desk=DESK, now=NOW)

    if role in COMMANDERS:
        assert outcome(judged) == ("accepted", None)
    else:
        assert outcome(judged) == ("refused", Code.ROLE_FORBIDDEN)


@pytest.mark.parametrize("role", sorted(COMMANDERS), ids=lambda r: r.name)
@pytest.mark.parametrize("opcode", list(Opcode), ids=lambda o: o.name)
def test_a_mask_of_one_opcode_lets_no_other_through(role: Role, opcode: Opcode) -> None:
    # FF-FRE-16.
    # I-7: a stolen key can do what its mask says and not one thing more.
    key = ROLE_KEYS[role]
    desk = FrontDesk(
        bundle=replace(BUNDLE, keys=(trusted(key, role, opcodes=(opcode,)),))
    )

    passed = {
        other
        for other in Opcode
        if isinstance(desk.judge(command(other, key)), CommandReceived)
    }

    assert passed == {opcode}


@pytest.mark.parametrize("lane", list(Lane), ids=lambda lane: lane.name)
def test_a_mask_of_one_lane_lets_no_other_through(lane: Lane) -> None:
    # FF-FRE-18.
    # I-7
    key = ROLE_KEYS[Role.RENTAL]
    desk = FrontDesk(bundle=replace(BUNDLE, keys=(trusted(key, lanes=(lane,)),)))

    passed = {
        COMMANDS[opcode].lane
        for opcode in Opcode
        if isinstance(desk.judge(command(opcode, key)), CommandReceived)
    }

    in_use = {COMMANDS[opcode].lane for opcode in Opcode}
    assert passed == {lane} & in_use


@pytest.mark.parametrize("receiver", list(RECEIVERS), ids=lambda c: c.label)
@pytest.mark.parametrize("fault", ["another car", "another fleet"])
def test_no_receiver_takes_what_is_for_another_car_or_fleet(
    receiver: FrameClass, fault: str
) -> None:
    # FF-AUTH-05, FF-SIG-03.
    # I-7: cross_vehicle and staging_to_prod at each of the four receivers.
    role = min(TAKEN[receiver])
    key = ROLE_KEYS[role]
    good = parse_frame(sample(receiver, key))
    is_fleet = fault == "another fleet"
    data = sign_frame(
        good.header
        if is_fleet
        else replace(good.header, vehicle_id=type(CAR_A)(bytes(16))),
        good.payload,
        fleet_id=bytes(16) if is_fleet else FLEET_ID,
        key=key,
    )

    judged = RECEIVERS[receiver](data, DESK)

    assert isinstance(judged, Dropped)
    assert judged.code is (Code.BAD_SIGNATURE if is_fleet else Code.WRONG_VEHICLE)
