"""Topics, vehicle ids, sessions and card digests."""

import pytest

from protocol.codes import Code, FrameClass
from protocol.entry import event_id, split_entry
from protocol.errors import DecodeError
from protocol.identity import (
    VehicleId,
    boot_counter,
    card_digest,
    session_id,
)
from protocol.topic import (
    ALL_UPLINKS,
    DOWN_CLASSES,
    EVERYTHING,
    UP_CLASSES,
    downlinks_of,
    parse_topic,
    topic_of,
)
from tools.published_keys import CAR_A, CAR_B, RENTAL

CAR = str(CAR_A)


@pytest.mark.parametrize("frame_class", FrameClass)
def test_a_topic_names_vehicle_direction_and_class(frame_class: FrameClass) -> None:
    # FF-ADR-05, FF-ADR-04.
    topic = topic_of(CAR_A, frame_class)

    direction = "up" if frame_class in UP_CLASSES else "down"
    assert topic == f"ff/v1/{CAR}/{direction}/{frame_class.label}"
    assert parse_topic(topic) == (CAR_A, frame_class)


def test_every_class_has_one_direction() -> None:
    assert {*UP_CLASSES, *DOWN_CLASSES} == set(FrameClass)
    assert not {*UP_CLASSES} & {*DOWN_CLASSES}
    assert (ALL_UPLINKS, EVERYTHING) == ("ff/v1/+/up/#", "ff/v1/#")
    assert downlinks_of(CAR_A) == f"ff/v1/{CAR}/down/+"


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("", Code.BAD_PARAM),
        ("ff", Code.BAD_PARAM),
        ("ff/v2/{car}/up/event", Code.BAD_PARAM),
        ("FF/v1/{car}/up/event", Code.BAD_PARAM),
        ("/ff/v1/{car}/up/event", Code.BAD_PARAM),
        ("ff/v1/{car}/up/event/", Code.BAD_PARAM),
        ("ff/v1/{car}/up", Code.BAD_PARAM),
        ("ff/v1//up/event", Code.BAD_PARAM),
        ("ff/v1/+/up/event", Code.BAD_PARAM),
        ("ff/v1/{lower}/up/event", Code.BAD_PARAM),
        ("ff/v1/{car}/down/event", Code.BAD_CLASS),
        ("ff/v1/{car}/up/cmd", Code.BAD_CLASS),
        ("ff/v1/{car}/up/", Code.BAD_CLASS),
        ("ff/v1/{car}/up/#", Code.BAD_CLASS),
        ("ff/v1/{car}/UP/event", Code.BAD_CLASS),
        ("ff/v1/{car}/up/EVENT", Code.BAD_CLASS),
        ("ff/v1/{car}/up/event\n", Code.BAD_CLASS),
        ("ff/v1/{car}/up/event\0", Code.BAD_CLASS),
    ],
)
def test_a_malformed_topic_is_refused(topic: str, code: Code) -> None:
    # FF-ADR-09.
    with pytest.raises(DecodeError) as caught:
        parse_topic(topic.format(car=CAR, lower=CAR.lower()))

    assert caught.value.code is code


def test_a_long_topic_is_quoted_in_part() -> None:
    with pytest.raises(DecodeError) as caught:
        parse_topic("x" * 65_535)

    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("last", sorted(set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")))
def test_a_vehicle_id_has_one_text(last: str) -> None:
    # FF-ADR-01.
    # L7: 26 characters hold 130 bits, so three of four last characters are aliases.
    text = CAR[:-1] + last

    if last in "AEIMQUY4":
        assert str(VehicleId.from_text(text)) == text
    else:
        with pytest.raises(DecodeError, match="canonical"):
            VehicleId.from_text(text)


@pytest.mark.parametrize("text", ["", CAR[:-1], CAR + "A", CAR + "\n", CAR.lower()])
def test_other_texts_are_no_vehicle_id(text: str) -> None:
    # FF-ADR-01.
    with pytest.raises(DecodeError):
        VehicleId.from_text(text)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_vehicle_id_has_16_bytes(size: int) -> None:
    with pytest.raises(DecodeError) as caught:
        VehicleId(bytes(size))

    assert caught.value.code is Code.BAD_LEN


def test_a_vehicle_id_prints_its_text() -> None:
    assert (repr(CAR_A), CAR_A.short) == (f"VehicleId({CAR})", CAR[:6])
    assert CAR_A < CAR_B


def test_a_card_has_another_digest_in_every_rental() -> None:
    # FF-SEC-06.
    uid = bytes.fromhex("04a1b2c3")

    digests = {
        card_digest(RENTAL, uid),
        card_digest(bytes(16), uid),
        card_digest(RENTAL, uid + b"\0"),
    }

    assert [len(digest) for digest in digests] == [16] * 3


def test_a_session_begins_with_its_boot_counter() -> None:
    session = session_id(7, bytes(12))

    assert (len(session), boot_counter(session)) == (16, 7)


def test_an_event_id_is_a_uuid_of_its_place_in_the_ledger() -> None:
    # FF-SIG-16.
    places = [
        (CAR_A.raw, bytes(8), 1),
        (CAR_A.raw, bytes(8), 2),
        (CAR_B.raw, bytes(8), 1),
        (CAR_A.raw, bytes(7) + b"\1", 1),
    ]

    ids = {event_id(*place) for place in places}

    assert len(ids) == len(places)
    assert {made[6] >> 4 for made in ids} == {8}
    assert {made[8] >> 6 for made in ids} == {2}
    assert event_id(*places[0]) in ids


def test_an_entry_without_room_for_its_link_is_refused() -> None:
    with pytest.raises(DecodeError) as caught:
        split_entry(bytes(43))

    assert caught.value.code is Code.BAD_LEN
