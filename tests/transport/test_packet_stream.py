"""Packets are cut as the broker wrote them, however the network dealt their bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.packets import MalformedError, Packet, PacketStream, Publish, puback


def varint(value: int) -> bytes:
    found = bytearray()
    while True:
        value, low = divmod(value, 128)
        found.append(low | (128 if value else 0))
        if not value:
            return bytes(found)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


def publish(
    topic: bytes, payload: bytes, *, mid: int = 0, properties: bytes | None = None
) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic
    if mid:
        body += mid.to_bytes(2, "big")
    if properties is not None:
        body += varint(len(properties)) + properties
    return packet(0x32 if mid else 0x30, body + payload)


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=40),
            st.binary(max_size=400),
            st.integers(0, 65_535),
            st.binary(max_size=200),
        ),
        max_size=6,
    ),
    st.lists(st.integers(1, 300), max_size=8),
    st.booleans(),
)
def test_every_split_of_the_bytes_gives_the_same_packets(
    told: list[tuple[bytes, bytes, int, bytes]], cuts: list[int], is_v5: bool
) -> None:
    data = b"".join(
        publish(topic, payload, mid=mid, properties=extra if is_v5 else None)
        for topic, payload, mid, extra in told
    )
    stream = PacketStream(is_v5=is_v5)
    found: list[Publish | Packet] = []
    for size in cuts:
        found += stream.feed(data[:size])
        data = data[size:]
    found += stream.feed(data)

    assert found == [
        Publish(topic, payload, mid, 1 if mid else 0, False, False)
        for topic, payload, mid, _ in told
    ]


def test_properties_of_a_message_are_passed_over() -> None:
    packed = b"\x05\x02" + (60).to_bytes(4, "big")  # message expiry (MQTT 5, 3.3.2.3.3)

    [found] = PacketStream(is_v5=True).feed(
        packet(0x3B, b"\0\1t\0\7" + packed + b"payload")
    )

    assert found == Publish(b"t", b"payload", 7, 1, True, True)


def test_every_other_packet_and_qos_2_goes_on_as_it_is() -> None:
    stream = PacketStream(is_v5=True)

    found = stream.feed(puback(258) + packet(0x34, b"\0\1t\0\1\0x") + b"\xd0\0")

    assert found == [
        Packet(0x40, b"\1\2"),
        Packet(0x34, b"\0\1t\0\1\0x"),
        Packet(0xD0, b""),
    ]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="a length of five bytes"),
        pytest.param(packet(0x32, b"\0\1t"), id="no packet id"),
        pytest.param(packet(0x32, b"\0\1t\0\0\0"), id="packet id 0"),
        pytest.param(packet(0x30, b"\0\x09t\0"), id="a topic longer than the packet"),
        pytest.param(packet(0x30, b"\0\1t\x09abc"), id="properties beyond the end"),
        pytest.param(packet(0x30, b""), id="nothing"),
    ],
)
def test_what_is_no_mqtt_ends_the_connection(data: bytes) -> None:
    with pytest.raises(MalformedError):
        PacketStream(is_v5=True).feed(data)
