"""Commitments to places: what they bind and what they hide (FF-PLC-01, K25, K26)."""

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codes import EventType
from protocol.content import parse_content
from protocol.errors import DecodeError
from protocol.event import EVENTS
from protocol.frame import parse_frame
from protocol.identity import VehicleId
from protocol.place import EVENT_PLACE, NO_PLACE, PLACE, EventPlace, commitment_of
from tests.depth import times
from tests.protocol.strategies import records
from tests.protocol.vector_file import ACCEPTED, VECTORS, frame_of
from tools.published_keys import CAR_A

MANY = settings(max_examples=times(100, deep=2_000), deadline=None)
VEHICLES: Final = st.binary(min_size=16, max_size=16).map(VehicleId)
TOLD: Final = records(EventPlace)
PLACES: Final = [name for name in ACCEPTED if name.startswith("place_")]
PLACED: Final = {
    EventType.RENTAL_STARTED,
    EventType.PARKED,
    EventType.RENTAL_ENDED,
    EventType.PAYMENT_REQUESTED,
    EventType.DAMAGE_REPORTED,
}


@MANY
@given(vehicle=VEHICLES, other=VEHICLES, told=TOLD, another=TOLD)
def test_two_places_have_one_commitment_only_if_they_are_one(
    vehicle: VehicleId, other: VehicleId, told: EventPlace, another: EventPlace
) -> None:
    # FF-PLC-01
    is_one = (vehicle, told) == (other, another)

    assert (commitment_of(vehicle, told) == commitment_of(other, another)) is is_one
    assert commitment_of(vehicle, told) == commitment_of(vehicle, replace(told))


@MANY
@given(vehicle=VEHICLES, told=TOLD, data=st.data())
@pytest.mark.parametrize("name", ["ledger_id", "seq", "salt"])
def test_a_commitment_binds_ledger_sequence_and_salt(
    name: str, vehicle: VehicleId, told: EventPlace, data: st.DataObject
) -> None:
    # FF-PLC-01
    other: Any = getattr(data.draw(TOLD), name)
    changed = replace(told, **{name: other})

    is_same = commitment_of(vehicle, changed) == commitment_of(vehicle, told)
    assert is_same is (changed == told)


@MANY
@given(vehicle=VEHICLES, told=TOLD, data=st.data())
@pytest.mark.parametrize(
    "name", ["latitude_e7", "longitude_e7", "accuracy_dm", "fix_age_ds"]
)
def test_a_commitment_binds_every_field_of_the_place(
    name: str, vehicle: VehicleId, told: EventPlace, data: st.DataObject
) -> None:
    # FF-PLC-01
    other: Any = getattr(data.draw(TOLD).place, name)
    changed = replace(told, place=replace(told.place, **{name: other}))

    is_same = commitment_of(vehicle, changed) == commitment_of(vehicle, told)
    assert is_same is (changed == told)


@MANY
@given(vehicle=VEHICLES, told=TOLD, bit=st.integers(0, 44 * 8 - 1))
def test_no_bit_of_a_place_can_change_unnoticed(
    vehicle: VehicleId, told: EventPlace, bit: int
) -> None:
    number = int.from_bytes(EVENT_PLACE.build(told), "big") ^ 1 << bit

    try:
        changed = EVENT_PLACE.parse(number.to_bytes(44, "big"))
    except DecodeError:
        return  # no place at all

    assert commitment_of(vehicle, changed) != commitment_of(vehicle, told)


@given(told=TOLD)
@MANY
def test_without_its_salt_a_commitment_tells_no_place_from_another(
    told: EventPlace,
) -> None:
    # K26: whoever knows the place but not the salt cannot confirm it. The entry has
    # neither; of 2^128 salts each gives another commitment to the same place.
    guesses = [replace(told, salt=bytes([number]) * 16) for number in range(64)]
    commitments = {commitment_of(CAR_A, guess) for guess in guesses}

    assert len(commitments) == len(guesses)
    committed = commitment_of(CAR_A, told)
    assert (committed in commitments) is (told in guesses)


@pytest.mark.parametrize("name", PLACES)
def test_the_place_vectors_fit_their_entries_and_stand_in_none(name: str) -> None:
    # FF-PLC-08
    told = parse_content(parse_frame(frame_of(name))).body
    assert isinstance(told, EventPlace)
    entry = frame_of(name.replace("place_", "event_"))
    body: Any = parse_content(parse_frame(entry)).body

    assert body.place_commitment == commitment_of(CAR_A, told)
    coordinates = PLACE.build(told.place)
    assert coordinates not in entry or coordinates == bytes(12)
    assert told.salt not in entry


def test_five_events_commit_to_a_place_and_no_other_knows_one() -> None:
    # FF-PLC-08
    committing = {
        event_type
        for event_type, layout in EVENTS.items()
        if "place_commitment" in layout.record.__dataclass_fields__
    }
    located = {
        name
        for layout in EVENTS.values()
        for name in layout.record.__dataclass_fields__
        if name.endswith("_e7")
    }

    assert committing == PLACED
    assert located == set()


def test_an_event_without_a_place_commits_to_zeros() -> None:
    # FF-PLC-02
    body = VECTORS["event_rental_ended_absent"]["fields"]["body"]

    assert body["place_commitment"] == NO_PLACE.hex()
