"""A place and the commitment to it, recomputed without the code that made them."""

import hashlib
import struct
from typing import Final

import pytest

from protocol.place import EVENT_PLACE, NO_PLACE, EventPlace, Place, commitment_of
from tests.protocol.vector_file import ACCEPTED, VECTORS
from tools.published_keys import CAR_A, CAR_B

PLACES: Final = [name for name in ACCEPTED if name.startswith("place_")]
TOLD: Final = EventPlace(
    bytes(8), 3, bytes(range(16)), Place(481_371_540, 115_761_240, 35, 4)
)


@pytest.mark.parametrize("name", PLACES)
def test_an_entry_commits_to_its_place_as_the_specification_says(name: str) -> None:
    """FF-PLC-01: by hashlib and struct, from what lies in the vectors."""
    told = VECTORS[name]["fields"]["body"]
    entry = VECTORS[name.replace("place_", "event_")]["fields"]
    place = struct.pack(
        ">iiHH",
        told["place"]["latitude_e7"],
        told["place"]["longitude_e7"],
        _or_absent(told["place"]["accuracy_dm"]),
        told["place"]["fix_age_ds"],
    )
    message = (
        b"ff-place-v1\0"
        + bytes.fromhex(entry["header"]["vehicle_id"])
        + bytes.fromhex(entry["link"]["ledger_id"])
        + entry["header"]["seq"].to_bytes(8, "big")
        + bytes.fromhex(told["salt"])
        + place
    )

    assert told["seq"] == entry["header"]["seq"]
    committed = entry["body"]["place_commitment"]
    assert committed == hashlib.sha256(message).hexdigest()


def _or_absent(value: int | None) -> int:
    return 0xFFFF if value is None else value


def test_every_part_of_a_place_changes_the_commitment() -> None:
    """FF-PLC-01: ledger, sequence, salt and each field of the place."""
    encoded = EVENT_PLACE.build(TOLD)
    commitments = {commitment_of(CAR_A, TOLD), commitment_of(CAR_B, TOLD)}
    for offset in (0, 15, 16, 31, 35, 39, 41, 43):
        data = bytearray(encoded)
        data[offset] ^= 1
        commitments.add(commitment_of(CAR_A, EVENT_PLACE.parse(bytes(data))))

    assert len(commitments) == 10
    assert NO_PLACE not in commitments
