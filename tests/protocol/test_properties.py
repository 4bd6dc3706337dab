"""What holds for every value and for every input, found by Hypothesis."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.command import parse_command
from protocol.content import parse_content
from protocol.entry import split_entry
from protocol.errors import (
    AuthenticationError,
    DecodeError,
    EncodeError,
    ProtocolError,
    SealError,
)
from protocol.event import parse_event
from protocol.frame import FRAME_LIMIT, Header, build_unsigned, parse_frame
from protocol.identity import VehicleId
from protocol.keyfile import parse_sealing_key, parse_signing_key
from protocol.keys import VerifyKey
from protocol.layout import Layout
from protocol.rendering import LINE_LIMIT, fields_of, render_bytes
from protocol.sealing import unseal
from protocol.topic import parse_topic, topic_of
from protocol.trust import open_bundle
from tests.depth import UNCOUNTED, times
from tests.protocol.strategies import HEADERS, LAYOUTS, frames, records
from tests.protocol.vector_file import ACCEPTED, frame_of
from tools.published_keys import (
    CAR_A,
    FLEET_ID,
    RENTAL,
    sealing_key,
    trust_roots,
)

pytestmark = UNCOUNTED

EVERY_LAYOUT = pytest.mark.parametrize(
    "layout", LAYOUTS, ids=lambda layout: str(layout.record.__name__)
)
CAR: X25519PrivateKey = sealing_key()
SOME = settings(max_examples=times(20, deep=400), deadline=None)
"""70 layouts share the examples; a busy machine may be slow."""
MANY = settings(max_examples=times(150, deep=3_000), deadline=None)


@EVERY_LAYOUT
@SOME
@given(data=st.data())
def test_what_was_built_parses_to_the_same_value(
    layout: Layout[Any], data: st.DataObject
) -> None:
    value = data.draw(records(layout.record))

    assert layout.parse(layout.build(value)) == value


@EVERY_LAYOUT
@SOME
@given(data=st.data())
def test_altered_bytes_are_refused_or_have_one_meaning(
    layout: Layout[Any], data: st.DataObject
) -> None:
    # FF-FRM-03.
    encoded = bytearray(layout.build(data.draw(records(layout.record))))
    offset = data.draw(st.integers(0, len(encoded) - 1))
    encoded[offset] = data.draw(st.integers(0, 0xFF))
    tail = data.draw(st.binary(max_size=2))

    try:
        value = layout.parse(bytes(encoded) + tail)
    except DecodeError:
        return

    assert layout.build(value) == bytes(encoded) + tail


@EVERY_LAYOUT
@SOME
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_or_canonical(
    layout: Layout[Any], data: bytes
) -> None:
    try:
        value = layout.parse(data)
    except DecodeError:
        return

    assert layout.build(value) == data


@EVERY_LAYOUT
@SOME
@given(data=st.data())
def test_no_value_outside_its_field_is_built_unnoticed(
    layout: Layout[Any], data: st.DataObject
) -> None:
    value = data.draw(records(layout.record))
    name = data.draw(st.sampled_from([*layout.record.__dataclass_fields__]))
    strange = data.draw(
        st.none() | st.integers() | st.binary(max_size=40) | st.text(max_size=3)
    )
    object.__setattr__(value, name, strange)

    try:
        built = layout.build(value)
    except EncodeError:
        return

    assert layout.build(layout.parse(built)) == built


@MANY
@given(header=HEADERS, payload=st.binary(max_size=300))
def test_a_frame_parses_to_the_header_and_payload_it_was_built_of(
    header: Header, payload: bytes
) -> None:
    frame = parse_frame(build_unsigned(header, payload) + bytes(64))

    assert (frame.header, frame.payload) == (header, payload)


DECODERS: dict[str, Callable[[bytes], object]] = {
    "frame": parse_frame,
    "entry": split_entry,
    "command": lambda data: parse_command(0x0201, 1, data),
    "event": lambda data: parse_event(0x810F, 1, data),
    "bundle": lambda data: open_bundle(data, trust_roots(), fleet_id=FLEET_ID),
    "public key": VerifyKey.load,
    "signing key": lambda data: parse_signing_key(data, name="a"),
    "sealing key": lambda data: parse_sealing_key(data, name="a"),
    "sealed": lambda data: unseal(
        data, CAR, fleet_id=FLEET_ID, vehicle_id=CAR_A, rental_id=RENTAL
    ),
}


@pytest.mark.parametrize("name", DECODERS)
@MANY
@given(data=st.binary(max_size=FRAME_LIMIT + 1))
def test_arbitrary_bytes_raise_only_protocol_errors(name: str, data: bytes) -> None:
    # FF-FRM-17.
    # the acceptance rule of issue 2: one typed error and never another exception
    try:
        DECODERS[name](data)
    except (DecodeError, AuthenticationError, SealError):
        pass
    except ProtocolError as error:
        pytest.fail(f"{type(error).__name__} blames the caller")


@MANY
@given(data=frames())
def test_arbitrary_payloads_raise_only_decode_errors(data: bytes) -> None:
    # FF-FRM-17.
    frame = parse_frame(data)

    try:
        content = parse_content(frame)
    except DecodeError:
        return

    assert fields_of(content.body)


@MANY
@given(text=st.text(max_size=100) | st.from_regex(r"ff/v1/[A-Z2-7]{26}/(up|down)/\w+"))
def test_arbitrary_topics_are_refused_or_canonical(text: str) -> None:
    try:
        route = parse_topic(text)
    except DecodeError:
        return

    assert topic_of(route.vehicle_id, route.frame_class) == text


@MANY
@given(raw=st.binary(min_size=16, max_size=16))
def test_a_vehicle_id_survives_its_text(raw: bytes) -> None:
    assert VehicleId.from_text(str(VehicleId(raw))).raw == raw


@MANY
@given(data=st.binary(max_size=FRAME_LIMIT + 1) | frames())
def test_any_bytes_render_on_one_bounded_line(data: bytes) -> None:
    line = render_bytes(data)

    assert line.isprintable()
    assert 0 < len(line) <= LINE_LIMIT


@MANY
@given(data=st.data())
def test_a_damaged_vector_renders_on_one_bounded_line(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ACCEPTED)))
    frame = bytearray(frame_of(name))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(
            st.integers(0, 0xFF)
        )

    line = render_bytes(bytes(frame))

    assert line.isprintable()
    assert 0 < len(line) <= LINE_LIMIT
