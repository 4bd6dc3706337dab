"""A vehicle hands over from one signing key to the next (FF-ENR-14)."""

from typing import Final

import pytest

from protocol.codes import Code
from protocol.errors import AuthenticationError
from protocol.keys import VerifyKey
from protocol.rotation import rotation_message, verify_rotation
from protocol.vehicle_event import KeyRotated
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
