"""Every code has a negative vector, or a reason why no frame can cause it alone."""

from pathlib import Path
from typing import Final

import pytest

from protocol.codes import Code
from tests.protocol.vector_file import VECTORS

TESTS: Final = Path(__file__).parent.parent

NO_REFUSAL: Final = "says how a command went, and refuses nothing"
BY_THE_CAR: Final = "the same frame is accepted by a car in another state"
BY_THE_DEVICE: Final = "what happens while it is carried out, or before a restart"
BY_THE_LOAD: Final = "what else is under way decides"
BY_THE_DISK: Final = "the receiver's storage decides"
BY_THE_BODY: Final = "a configuration travels in many frames; the last of them tells"
RESERVED: Final = "no opcode of version 1 causes it yet; the number is kept"

WITHOUT_VECTOR: Final = {
    Code.OK: NO_REFUSAL,
    Code.ALREADY_IN_STATE: NO_REFUSAL,
    Code.ACCEPTED: NO_REFUSAL,
    Code.IN_PROGRESS: NO_REFUSAL,
    Code.TOO_LARGE: BY_THE_BODY,
    Code.BAD_HASH: BY_THE_BODY,
    Code.CONFIG_INCOMPLETE: BY_THE_BODY,
    Code.VEHICLE_MOVING: BY_THE_CAR,
    Code.IGNITION_ON: BY_THE_CAR,
    Code.DOOR_OPEN: BY_THE_CAR,
    Code.WRONG_RENTAL: BY_THE_CAR,
    Code.STATE_VERSION: BY_THE_CAR,
    Code.KEY_OR_CARD_MISSING: BY_THE_CAR,
    Code.LOW_VOLTAGE: BY_THE_CAR,
    Code.WRONG_MODE: BY_THE_CAR,
    Code.PIN_REQUIRED: BY_THE_CAR,
    Code.BUSY: BY_THE_LOAD,
    Code.QUEUE_FULL: BY_THE_LOAD,
    Code.RATE_LIMITED: BY_THE_LOAD,
    Code.ACTUATOR_TIMEOUT: BY_THE_DEVICE,
    Code.ACTUATOR_FAULT: BY_THE_DEVICE,
    Code.BUS_ERROR: BY_THE_DEVICE,
    Code.INTERNAL: BY_THE_DEVICE,
    Code.INDETERMINATE_AFTER_REBOOT: BY_THE_DEVICE,
    Code.STORAGE_FULL: BY_THE_DISK,
    Code.STORAGE_CORRUPT: BY_THE_DISK,
    Code.NOT_PARKED: RESERVED,
    Code.OUT_OF_ZONE: RESERVED,
    Code.CANCELLED: RESERVED,
    Code.TOO_LATE_TO_CANCEL: RESERVED,
}

CAUSED: Final = {
    Code[vector["expected"]["code"]]
    for vector in VECTORS.values()
    if vector["expected"]["result"] == "refuse"
}


def test_every_code_has_a_negative_vector_or_a_reason_for_none() -> None:
    assert set(Code) - CAUSED == set(WITHOUT_VECTOR)


@pytest.mark.parametrize(
    "code", [code for code, why in WITHOUT_VECTOR.items() if why != RESERVED]
)
def test_a_code_without_a_vector_is_caused_by_some_other_test(code: Code) -> None:
    named = [
        path.name
        for path in TESTS.rglob("test_*.py")
        if path != Path(__file__)
        and f"Code.{code.name}" in path.read_text(encoding="utf-8")
    ]

    assert named
