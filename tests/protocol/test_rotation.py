"""A vehicle hands over from one signing key to the next (FF-ENR-14)."""

from typing import Any, Final

import pytest

from protocol.codes import Code
from protocol.errors import AuthenticationError, DecodeError
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.rotation import (
    Handover,
    follow_rotations,
    rotated_key,
    rotation_message,
    verify_rotation,
)
from protocol.vehicle_event import KeyRotated
from tests.gateway.uplink.key_holder import FakeKeyHolder
from tests.protocol.vector_file import frame_of
from tools.published_keys import (
    CAR_A,
    CAR_A_KEY,
    CAR_A_NEXT_KEY,
    CAR_B,
    CAR_B_KEY,
    FLEET_ID,
)

LEDGER: Final = bytes(range(8))


def rotated(**changes: object) -> KeyRotated:
    place = {
        "fleet_id": FLEET_ID,
        "vehicle_id": CAR_A,
        "old_key_id": CAR_A_KEY.key.key_id,
        "ledger_id": LEDGER,
        "seq": 7,
    } | changes
    new = CAR_A_NEXT_KEY.key
    message = rotation_message(**place)  # type: ignore[arg-type] # a test's own fields
    return KeyRotated(new.verify_key.raw, new.sign(message))


def verify(entry: KeyRotated) -> VerifyKey:
    return verify_rotation(
        entry,
        fleet_id=FLEET_ID,
        vehicle_id=CAR_A,
        old_key=CAR_A_KEY.key.verify_key,
        ledger_id=LEDGER,
        seq=7,
    )


def test_a_proof_by_the_new_key_hands_over_to_it() -> None:
    """FF-ENR-14."""
    assert verify(rotated()) == CAR_A_NEXT_KEY.key.verify_key


@pytest.mark.parametrize(
    "changes",
    [
        {"fleet_id": bytes(16)},
        {"vehicle_id": CAR_B},
        {"old_key_id": CAR_B_KEY.key.key_id},
        {"ledger_id": bytes(8)},
        {"seq": 8},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_proof_for_another_place_or_owner_does_not_hold(
    changes: dict[str, object],
) -> None:
    """FF-ENR-14."""
    with pytest.raises(AuthenticationError) as refused:
        verify(rotated(**changes))
    assert refused.value.code is Code.BAD_SIGNATURE


def test_a_key_is_not_rotated_to_itself() -> None:
    entry = KeyRotated(CAR_A_KEY.key.verify_key.raw, bytes(64))
    with pytest.raises(AuthenticationError) as refused:
        verify(entry)
    assert refused.value.code is Code.BAD_PARAM


# -- a chain of them ---


def holder() -> FakeKeyHolder:
    return FakeKeyHolder(CAR_A_KEY.key, vehicle_id=CAR_A, fleet_id=FLEET_ID)


def follow(
    *frames: bytes, fleet_id: bytes = FLEET_ID, vehicle_id: VehicleId = CAR_A
) -> tuple[Handover, ...]:
    return follow_rotations(
        frames,
        CAR_A_KEY.key.verify_key,
        fleet_id=fleet_id,
        vehicle_id=vehicle_id,
    )


def refusal(*frames: bytes, **whose: Any) -> Code:
    with pytest.raises((AuthenticationError, DecodeError)) as refused:
        follow(*frames, **whose)
    assert isinstance(refused.value, AuthenticationError | DecodeError)
    return refused.value.code


def test_rotations_lead_from_the_first_key_to_the_last() -> None:
    """FF-ENR-14, FF-ENR-15."""
    car = holder()
    frames = [car.rotate() for _ in range(3)]

    handovers = follow(*frames)

    assert handovers[0].old_key == CAR_A_KEY.key.verify_key
    assert [one.seq for one in handovers] == [1, 2, 3]
    assert handovers[-1].new_key == car.key.verify_key
    assert rotated_key(frames[-1]) == car.key.verify_key.raw
    assert follow() == ()


def test_a_chain_of_rotations_has_no_gap_no_stranger_and_no_way_back() -> None:
    """FF-ENR-14."""
    car = holder()
    first, second = car.rotate(), car.rotate()
    back = car.rotate(CAR_A_KEY.key)

    assert refusal(second) is Code.UNKNOWN_KEY
    assert refusal(first, second, back) is Code.BAD_PARAM
    assert refusal(first, vehicle_id=CAR_B) is Code.WRONG_VEHICLE
    assert refusal(first, fleet_id=bytes(16)) is Code.BAD_SIGNATURE


def test_another_frame_is_no_rotation() -> None:
    """FF-ENR-14: neither an event of another type nor a frame of another class."""
    for name in ("event_agent_started", "hello_first"):
        frame = frame_of(name)
        with pytest.raises(DecodeError):
            rotated_key(frame)
        refusal(frame)
